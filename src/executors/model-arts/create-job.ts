import { join } from 'node:path'
import { createOnce } from '../../cloud/create-once.ts'
import type { JobRequest } from '../../cloud/modelarts/job-request.ts'
import type { TrainingJob } from '../../cloud/modelarts/training-job.ts'
import type { TrainingJobs } from '../../cloud/modelarts/training-jobs.ts'
import { InputError, ServiceError } from '../../errors.ts'
import { jobName } from '../job-name.ts'

/** How a job is told apart from all others: by its name, and by whose it is. */
export interface JobIdentity {
  /** At most 64 letters, digits, `_` and `-`, the service's limit. */
  readonly name: string
  /** What people see in the console; a job of this name without it is somebody else's. */
  readonly description: string
}

/** Letters of the id that fit into a name beside what `jobName` adds. */
const longestId = 64 - 'ascendflow--01234567'.length

/** The identity of job `id`, the same whenever it is asked for with the same folder. */
export function identityOf(id: string, logDir: string): JobIdentity {
  const name = jobName(id.replaceAll(/[^\w-]/g, '_').slice(-longestId), logDir)
  return { name, description: `Job ${id} of ascendflow.`.slice(0, 256) }
}

export interface CreateJobOptions {
  readonly logDir: string
  readonly signal: AbortSignal
  readonly pollMs: number
}

/**
 * Creates the job, or takes the one that was created before: no answer to a creation does not mean that there was none.
 * @throws InputError when a job of somebody else has its name.
 */
export async function createJob(
  jobs: TrainingJobs,
  request: JobRequest,
  { logDir, signal, pollMs }: CreateJobOptions,
): Promise<TrainingJob> {
  const { name, description, workspace_id: workspaceId } = request.metadata
  const isTaken = ({ serviceCode }: ServiceError) => serviceCode === 'ModelArts.2751'
  const find = async () => {
    const found = await jobs.find(name, { workspaceId, signal })
    if (found && found.metadata.description !== description)
      throw taken(`It is ${found.metadata.id}, and was not submitted from here.`)
    return found
  }
  try {
    return await createOnce({ find, create: () => jobs.create(request, signal), isTaken }, { signal, pollMs })
  } catch (error) {
    if (!(error instanceof ServiceError) || !isTaken(error)) throw error
    throw taken('It is in none of the lists that these credentials may see.', error)
  }

  function taken(which: string, cause?: ServiceError): InputError {
    return new InputError(`modelarts: a training job has the name ${name} already. ${which}`, {
      ...{ field: 'name', cause },
      hint: `Delete that job and wait until it is gone, or remove ${join(logDir, 'job-name')} to have another name chosen.`,
    })
  }
}
