/** Why a job failed, as a literal: closed, so that a switch over it can be exhaustive. */
export type FailureKind =
  | 'device-oom'
  | 'host-oom'
  | 'hccl-timeout'
  | 'device-fault'
  | 'lost-node'
  | 'disk-full'
  | 'data'
  | 'config'
  | 'code'
  | 'capacity'
  | 'auth'
  | 'cancelled'
  | 'hang'
  | 'diverged'
  | 'unknown'

/**
 * When trying again can help: at once (after the call's usual wait), `later` (a minute, doubled each time), `elsewhere`
 * (at once, without the node that failed where the executor can choose), or never.
 */
export type FailureRetry = 'now' | 'later' | 'elsewhere' | 'never'

/** A failed job in words that say what to do. */
export interface JobFailure {
  readonly kind: FailureKind
  /** What happened, without a full stop. */
  readonly cause: string
  /** What to do about it: sentences. */
  readonly advice: string
  readonly retry: FailureRetry
  /** The line of output that says so; absent when it follows from how the job ended. */
  readonly evidence?: Evidence
  /** What has to be done again; absent where the job does not tell how far it is. */
  readonly lost?: LostWork
}

/** One line of a job's output. */
export interface Evidence {
  readonly line: string
  /** Its number in the job's output, from 1. */
  readonly number: number
  /** Rank of the node that printed it; absent when the job has one node. */
  readonly node?: number
}

/** What a failure costs: everything since the newest checkpoint. */
export interface LostWork {
  /** Iterations that have to be done again. */
  readonly iterations: number
  /** Of all nodes together, those iterations and what passed after them until the job had ended. */
  readonly seconds: number
  /** Absent for a job without devices. */
  readonly deviceHours?: number
  /** In the currency of `pricePerDeviceHour`; absent without it. */
  readonly price?: number
}
