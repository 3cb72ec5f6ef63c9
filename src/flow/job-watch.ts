import type { JobFailure } from '../job-failure.ts'
import type { Premises } from './estimate.ts'
import type { Launch } from './launch.ts'

/** What a watch is told when it is made. */
export interface WatchFacts {
  readonly launch: Pick<Launch, 'nodes' | 'devicesPerNode'>
  /** What the run takes for granted about its devices; absent when it was not told. */
  readonly premises?: Premises | undefined
  /** When the job began to run, in ms since 1970; of an earlier process if that started it. */
  readonly startedAt: number
}

/** One line of a job's output. */
export interface JobLine {
  readonly text: string
  /** When it was read, in ms since 1970. A job that is followed again tells its old lines at once. */
  readonly at: number
  /** Rank of the node that printed it; absent when the job has one node. */
  readonly node?: number | undefined
}

/** How a job ended: `stopped` when its watch had it stopped, `unproved` when it succeeded and its output is not there. */
export interface JobEnd {
  readonly state: 'failed' | 'cancelled' | 'lost' | 'stopped' | 'unproved'
  readonly exitCode?: number | undefined
  readonly reason?: string | undefined
  /** Rank of the node that failed first, where its executor knows. */
  readonly node?: number | undefined
  /** In ms since 1970. */
  readonly at: number
}

/** What a job's output means; each but `stop` becomes the event `step.<type>`. */
export type JobNews =
  | { readonly type: 'metrics'; readonly values: Readonly<Record<string, number>> }
  | CheckpointNews
  | ValidationNews
  | WarningNews
  /** The job has to be stopped, and has failed like this. */
  | { readonly type: 'stop'; readonly failure: JobFailure }

/** A checkpoint begins to be saved, is saved, or was loaded. */
export interface CheckpointNews {
  readonly type: 'checkpoint'
  readonly state: 'saving' | 'saved' | 'loaded'
  readonly iteration: number
  /** As the job names it. */
  readonly path: string
}

/** The model was measured on data that it is not trained on. */
export interface ValidationNews {
  readonly type: 'validation'
  readonly iteration: number
  readonly loss: number
  /** exp(loss), cut at exp(20). */
  readonly perplexity: number
  /** Present for measurements after training. */
  readonly set?: 'validation' | 'test'
}

/** Something that does not end the job and that somebody should know. */
export interface WarningNews {
  readonly type: 'warning'
  /** `hang`, `loss-spike`, `skipped` and `nan` are found by watching; `log` is a warning of the job's own. */
  readonly about: 'hang' | 'loss-spike' | 'skipped' | 'nan' | 'log'
  readonly text: string
}

/**
 * Reads a job's output as it comes; made anew for each job that is followed, and told the time, so that it needs no
 * clock. What it keeps must not grow with the output.
 */
export interface JobWatch {
  /** What one line means; nothing for most. */
  read(line: JobLine): readonly JobNews[]
  /** When to call `overdue` unless a line moves it, in ms since 1970; undefined: never. */
  dueAt(): number | undefined
  /** Called when nothing was read until `dueAt`. */
  overdue(at: number): readonly JobNews[]
  /** Why the job failed. */
  diagnose(end: JobEnd): JobFailure
}
