import type { FlowError } from '../errors.ts'
import type { JobFailure } from '../job-failure.ts'
import type { JobHandle, JobState } from './executor.ts'
import type { CheckpointNews, ValidationNews, WarningNews } from './job-watch.ts'

interface Stamp {
  /** The run's id. */
  readonly run: string
  /** ISO 8601 time. */
  readonly at: string
}

interface OfStep extends Stamp {
  /** Name of the call. */
  readonly step: string
  readonly key: string
}

type Told<N extends { readonly type: string }> = OfStep & Omit<N, 'type'> & { readonly type: `step.${N['type']}` }

/** Everything that a run tells, discriminated by `type`. */
export type FlowEvent =
  | (Stamp & { readonly type: 'run.started'; readonly steps: readonly string[] })
  | (Stamp & { readonly type: 'run.finished'; readonly state: 'succeeded' | 'failed' | 'cancelled' | 'detached' })
  | (OfStep & { readonly type: 'step.skipped'; readonly recordedAt: string; readonly facts: readonly string[] })
  | (OfStep & { readonly type: 'step.started'; readonly attempt: number; readonly reason: string })
  | (OfStep & { readonly type: 'step.progress'; readonly done: number; readonly total?: number })
  | (OfStep & { readonly type: 'step.metrics'; readonly values: Readonly<Record<string, number>> })
  | Told<CheckpointNews>
  | Told<ValidationNews>
  | Told<WarningNews>
  | (OfStep & { readonly type: 'step.log'; readonly line: string; readonly node?: number })
  | (OfStep & {
      readonly type: 'step.retrying'
      readonly attempt: number
      readonly delayMs: number
      readonly error: Error
      /** Why the job failed and what that costs; absent for what is no job. */
      readonly failure?: JobFailure
    })
  | (OfStep & {
      readonly type: 'step.succeeded'
      readonly durationMs: number
      readonly output: unknown
      /** What the step's `summarize` says of the output. */
      readonly facts: readonly string[]
    })
  | (OfStep & { readonly type: 'step.failed'; readonly error: FlowError; readonly failure?: JobFailure })
  | (OfStep & { readonly type: 'job.submitted'; readonly job: JobHandle })
  | (OfStep & { readonly type: 'job.state'; readonly state: JobState; readonly reason?: string })

/** The events of one type. */
export type EventOf<T extends FlowEvent['type']> = Extract<FlowEvent, { readonly type: T }>

type Unstamped<E> = E extends Stamp ? Omit<E, 'run' | 'at'> : never

/** An event before its run and time are put on. */
export type EventBody = Unstamped<FlowEvent>
