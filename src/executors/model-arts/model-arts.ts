import { setTimeout as sleep } from 'node:timers/promises'
import type { JobRequest, Volume } from '../../cloud/modelarts/job-request.ts'
import { endOf, stateOf, type TrainingJob } from '../../cloud/modelarts/training-job.ts'
import { trainingJobs } from '../../cloud/modelarts/training-jobs.ts'
import { type CloudOptions, createTransport } from '../../cloud/transport.ts'
import { InputError, JobError, ServiceError } from '../../errors.ts'
import type { Executor, JobHandle, JobState } from '../../flow/executor.ts'
import type { Launch } from '../../flow/launch.ts'
import { createJob, identityOf } from './create-job.ts'
import { jobCommand, type ModelArtsMount } from './job-command.ts'
import { followLogs } from './job-logs.ts'

export interface ModelArtsOptions extends CloudOptions {
  /** `organisation/name:tag` in the region's SWR, without the registry's host. */
  readonly image: string
  /** Dedicated pool, as `pool-…`; absent: the shared pool, which has no volumes. */
  readonly poolId?: string
  /** Default: `modelarts.pool.visual.…` for the devices of the launch. */
  readonly flavorId?: string
  /** NPUs of one node; default 8. */
  readonly devicesPerNode?: number
  /** Nodes that one job may have; absent: any number. */
  readonly maxNodes?: number
  /** Volumes; all paths of a launch, and the store, must be on one. */
  readonly mounts?: readonly ModelArtsMount[]
  /** Where logs are kept: `/bucket/folder/`. Without it, output beyond 5 MB between two looks is not seen. */
  readonly logFolder?: string
  /** Default `0`, the default workspace. */
  readonly workspaceId?: string
  /**
   * Times that ModelArts itself restarts the job after a fault of its hardware, 1 to 3; default: never. A training of the
   * toolchain goes on from its newest checkpoint then; other commands run again as they are.
   */
  readonly restarts?: number
  /** 1 (default) to 3, in a dedicated pool. */
  readonly priority?: number
  /** Hours after which ModelArts ends the job. */
  readonly maxHours?: number
  /** Time between two looks at a job, in ms; default 10,000. */
  readonly pollMs?: number
  /** How long a job is followed on while the service does not answer, in ms; default 30 minutes. */
  readonly patienceMs?: number
}

const name = 'modelarts'

interface ModelArtsJob extends JobHandle {
  readonly jobId: string
  readonly jobName: string
  readonly nodes: number
}

/**
 * Runs jobs as training jobs of ModelArts Standard, with an image of one's own.
 *
 * A job is created once: its name is noted before, and when the answer to its creation is lost it is found by that name.
 * Output is that of all nodes, each line once; of a job that failed, what the nodes say that failed comes last. Of more
 * than eight nodes, the last, where AscendSpeed prints its iterations, is read at each look, and the others in turn.
 */
export function modelArts(options: ModelArtsOptions): Executor {
  const { pollMs = 10_000, patienceMs = 30 * 60_000 } = options
  const jobs = trainingJobs(createTransport(options))

  return {
    name,
    devicesPerNode: options.devicesPerNode ?? 8,
    ...(options.maxNodes === undefined ? {} : { maxNodes: options.maxNodes }),
    describe: launch => JSON.stringify(requestOf(launch, options), null, 2),

    async submit(launch, { id, logDir, signal }) {
      // What cannot be asked for is refused before a name is noted.
      const request = requestOf(launch, options)
      const metadata = { ...request.metadata, ...identityOf(id, logDir) }
      const job = await createJob(jobs, { ...request, metadata }, { logDir, signal, pollMs })
      const { id: jobId, name: jobName } = job.metadata
      return { executor: name, id, jobId, jobName, nodes: launch.nodes } satisfies ModelArtsJob
    },

    async *watch(handle, { signal }) {
      const { jobId, nodes } = handle as ModelArtsJob
      const logs = followLogs(jobs, { id: jobId, nodes })
      let last: JobState | undefined
      let quietSince = Date.now()
      for (;;) {
        try {
          // First its state, then its output: what is written before the end is read before the end is told.
          const job = await jobs.get(jobId, signal)
          const state = job ? stateOf(job) : 'lost'
          const hasEnded = !['pending', 'running'].includes(state)
          yield* hasEnded ? logs.rest({ last: failedNodes(job), pollMs, signal }) : logs.look(signal)
          quietSince = Date.now()
          if (hasEnded) {
            const reason = job ? undefined : 'it was deleted'
            yield { type: 'state', state, ...(job ? exitOf(job, state) : {}), ...(reason ? { reason } : {}) }
            return
          }
          if (state !== last) yield { type: 'state', state }
          last = state
        } catch (error) {
          // The job goes on while nobody can look at it.
          if (!(error instanceof ServiceError && error.retryable) || Date.now() - quietSince > patienceMs) throw error
        }
        await sleep(pollMs, undefined, { signal })
      }
    },

    async cancel(handle) {
      const { jobId, jobName } = handle as ModelArtsJob
      await jobs.stop(jobId)
      const until = Date.now() + patienceMs
      while (Date.now() < until) {
        const job = await jobs.get(jobId)
        if (!job || !['pending', 'running'].includes(stateOf(job))) return
        await sleep(pollMs)
      }
      throw new JobError(`Job ${jobName} on ${name} was told to end and has not within ${patienceMs / 60_000} min.`, {
        ...{ executor: name, job: jobName, retryable: true, logTail: [] },
      })
    },
  }
}

/** What is asked for, but for the name and the description that a job gets when it is submitted. */
function requestOf(launch: Launch, options: ModelArtsOptions): JobRequest {
  const { image, poolId, mounts = [], logFolder, workspaceId, restarts, priority, maxHours } = options
  // Where nothing is started anew, the command need not say how to go on.
  const { resume, ...once } = launch
  const command = jobCommand(restarts === undefined ? once : launch, mounts)
  const flavorId = options.flavorId ?? flavorFor(launch.devicesPerNode)
  const annotations = { 'fault-tolerance/job-retry-num': `${restarts}`, 'fault-tolerance/hang-retry': 'true' }
  return {
    kind: 'job',
    metadata: {
      name: 'NAME',
      ...(workspaceId === undefined ? {} : { workspace_id: workspaceId }),
      ...(restarts === undefined ? {} : { annotations }),
    },
    algorithm: { engine: { image_url: image }, command },
    spec: {
      resource: {
        ...(poolId === undefined ? {} : { pool_id: poolId }),
        ...(flavorId === undefined ? {} : { flavor_id: flavorId }),
        node_count: launch.nodes,
      },
      ...(mounts.length > 0 ? { volumes: mounts.map(volumeOf) } : {}),
      ...(logFolder === undefined ? {} : { log_export_path: { obs_url: logFolder } }),
      ...(priority === undefined ? {} : { schedule_policy: { priority } }),
      ...(maxHours === undefined ? {} : { auto_stop: { time_unit: 'HOURS', duration: maxHours } }),
    },
  }
}

/** Flavors of dedicated NPU pools, by devices; a job without devices names none. */
function flavorFor(devices: number): string | undefined {
  if (devices === 0) return undefined
  const size = [1, 2, 4, 8, 16].find(each => each >= devices)
  if (size !== undefined) return `modelarts.pool.visual.${size === 1 ? '' : size}xlarge`
  throw new InputError(`${devices} devices in one node: ModelArts has flavors of up to 16.`, {
    field: 'devicesPerNode',
  })
}

function volumeOf({ local, at = local, nfs, obs, pfs, readOnly }: ModelArtsMount): Volume {
  if (nfs !== undefined && obs === undefined && pfs === undefined)
    return { nfs: { nfs_server_path: nfs, local_path: at, ...(readOnly ? { read_only: true } : {}) } }
  if (obs !== undefined && nfs === undefined && pfs === undefined) return { obs: { obs_path: obs, local_path: at } }
  if (pfs !== undefined && nfs === undefined && obs === undefined) return { pfs: { pfs_path: pfs, local_path: at } }
  throw new InputError(`mounts: ${local} must name exactly one of nfs, obs and pfs.`, { field: 'mounts' })
}

/** Ranks of the nodes that failed: what they say last is of most use. */
function failedNodes(job: TrainingJob | undefined): readonly number[] {
  const failed = job?.status?.task_statuses?.filter(({ exit_code }) => exit_code) ?? []
  return failed.map(({ task }) => Number(/^worker-(\d+)$/.exec(task ?? '')?.[1]))
}

function exitOf(job: TrainingJob, state: JobState): { readonly exitCode?: number; readonly reason?: string } {
  return state === 'succeeded' ? { exitCode: 0 } : state === 'failed' ? endOf(job) : {}
}
