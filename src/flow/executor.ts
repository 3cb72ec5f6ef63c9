import type { Launch } from './launch.ts'

/** An executor's note of a job, small JSON: enough to follow it from another process after a crash. */
export interface JobHandle {
  /** Name of the executor that made it. */
  readonly executor: string
  readonly id: string
  /** Names of machines that the job was kept away from, because of `avoid`. */
  readonly leftOut?: readonly string[]
  readonly [field: string]: unknown
}

export type JobState = 'pending' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'lost'

export type JobUpdate =
  | { readonly type: 'log'; readonly line: string; readonly node?: number }
  | {
      readonly type: 'state'
      /** `lost`: it is gone and left no exit status. The last four end the job. */
      readonly state: JobState
      readonly exitCode?: number
      /** In words, for people: the signal, the service's own reason. */
      readonly reason?: string
      /** Rank of the node that failed, or was lost, first; absent: the job has one, or none is known. */
      readonly node?: number
    }

export interface SubmitOptions {
  /** Identity of the job: submitting the same id again gives the same job and starts nothing. */
  readonly id: string
  /** A folder of this job's own, on the machine that submits; it exists. */
  readonly logDir: string
  readonly signal: AbortSignal
  /**
   * Where earlier tries failed because of the machine. An executor that chooses machines keeps the job away from these, as
   * far as there are others, says so in its handle, and first ends what may still run of those tries.
   */
  readonly avoid?: readonly FailedNode[]
}

/** A node of a job, by its rank. */
export interface FailedNode {
  readonly job: JobHandle
  readonly node: number
}

/** Where jobs run. Five members; capabilities are fields, absent when unknown. */
export interface Executor {
  readonly name: string
  /** NPUs of one node, for the plan to check layouts against; absent: unknown. */
  readonly devicesPerNode?: number
  /** Nodes that one job may have; absent: any number. */
  readonly maxNodes?: number
  /** What would be run, for people: a shell line or a request body. */
  describe(launch: Launch): string
  submit(launch: Launch, options: SubmitOptions): Promise<JobHandle>
  /** Log lines from the first one on, and states, until the job has ended. Can be called again after a crash. */
  watch(job: JobHandle, options: { readonly signal: AbortSignal }): AsyncIterable<JobUpdate>
  /** Stops the job; resolves when nothing of it is left. A job that has ended is left alone. */
  cancel(job: JobHandle): Promise<void>
}
