import { type Diagnosis, diagnose } from '../../checkpoint/diagnose.ts'
import { findingText } from '../../checkpoint/finding.ts'
import { openMegatronShards } from '../../checkpoint/open-megatron.ts'
import { stageSizes } from '../../checkpoint/stage-sizes.ts'
import { isFlowError, JobError } from '../../errors.ts'
import type { EndedJob } from '../../flow/call.ts'
import type { Architecture } from '../../models/architecture.ts'
import type { MegatronCheckpoint } from '../artifacts.ts'
import { sizesOf } from '../parallel-sizes.ts'

/** What is wrong with what a job left behind, although it ended well. */
export interface Lack {
  /** In words, with numbers and paths. */
  readonly what: string
  /** Whether another attempt may do better. */
  readonly retryable: boolean
  readonly hint?: string | undefined
  readonly cause?: unknown
}

/** The error for a job whose exit status says that it did its work, and whose files say that it did not. */
export function unproved({ job, logTail }: EndedJob, { what, ...lack }: Lack): JobError {
  return new JobError(`Job ${job.id} on ${job.executor} ended with exit code 0, but ${what}.`, {
    ...{ executor: job.executor, job: job.id, exitCode: 0, logTail: [...logTail] },
    ...lack,
  })
}

/** Carries out `check`; what is wrong with the files that it reads becomes a JobError. */
export async function proved<T>(ended: EndedJob, check: () => T | Promise<T>): Promise<T> {
  try {
    return await check()
  } catch (cause) {
    if (!isFlowError(cause) || cause instanceof JobError) throw cause
    throw unproved(ended, { what: cause.message.replace(/\.$/, ''), retryable: cause.code === 'bad-format', cause })
  }
}

/** The doctor's opinion of a Megatron folder; undefined when there is nothing in it yet. */
export async function examine(path: string, architecture: Architecture): Promise<Diagnosis | undefined> {
  try {
    return await diagnose(path, { architecture })
  } catch (error) {
    // That it holds no checkpoint of any kind; what cannot be read at all must not pass for empty.
    if (isFlowError(error) && error.code === 'bad-format') return undefined
    throw error
  }
}

/** The doctor's errors, one after another, for a message. */
export function errorsOf(diagnosis: Diagnosis | undefined): string {
  const errors = diagnosis?.findings.filter(({ severity }) => severity === 'error') ?? []
  return errors.length === 0 ? '' : `: ${errors.slice(0, 3).map(findingText).join('; ')}`
}

/**
 * Makes sure that `planned` is what is on the disk: a complete checkpoint of that iteration, by the doctor, cut as it was
 * to be cut. Gives how. @throws JobError saying what is missing or otherwise.
 */
export async function proveCheckpoint(
  ended: EndedJob,
  planned: Pick<MegatronCheckpoint, 'path' | 'iteration' | 'tp' | 'pp' | 'layout' | 'architecture'>,
  retryable = true,
): Promise<ReturnType<typeof sizesOf>> {
  const { path, iteration, tp, pp, layout, architecture } = planned
  const found = await examine(path, architecture)
  if (found?.newestComplete !== iteration) {
    const newest = found?.newestComplete
    const what = `${path} holds no complete checkpoint of iteration ${iteration}`
    const other = newest === undefined ? '' : ` (the newest complete one is of iteration ${newest})`
    throw unproved(ended, { what: `${what}${other}${errorsOf(found)}`, retryable })
  }
  return proved(ended, async () => {
    const shards = await openMegatronShards(path, { iteration, architecture })
    await shards.close()
    if (shards.tp === tp && shards.pp === pp && shards.layout === layout)
      return sizesOf({ tp, pp, ...stageSizes(shards.stages) })
    const is = `tp ${shards.tp} · pp ${shards.pp} · ${shards.layout}`
    throw unproved(ended, { what: `${path} is cut ${is}, not tp ${tp} · pp ${pp} · ${layout}`, retryable: false })
  })
}
