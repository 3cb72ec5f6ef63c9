import type { JobFailure } from './job-failure.ts'

/** What went wrong, as a literal: one code for each different thing that a caller can do about it. */
export type ErrorCode =
  | 'invalid-input'
  | 'invalid-layout'
  | 'invalid-plan'
  | 'bad-format'
  | 'unsupported'
  | 'bad-store'
  | 'locked'
  | 'step-failed'
  | 'job-failed'
  | 'service-failed'
  | 'cancelled'
  | 'detached'

export interface ErrorDetails {
  /** What to try; shown after the message. */
  readonly hint?: string | undefined
  readonly cause?: unknown
}

const brand = Symbol.for('ascendflow.error')

/** The base of every error that this library throws. Tell kinds apart by `code`. */
export class FlowError extends Error {
  readonly code: ErrorCode
  readonly hint?: string

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(
      details.hint ? `${message} ${details.hint}` : message,
      details.cause === undefined ? undefined : { cause: details.cause },
    )
    this.name = new.target.name
    this.code = code
    if (details.hint) this.hint = details.hint
    Object.defineProperty(this, brand, { value: true })
  }
}

/** True for every error of this library, also across two copies of it in one process. */
export function isFlowError(value: unknown): value is FlowError {
  return value instanceof Error && (value as { [brand]?: boolean })[brand] === true
}

/** A call was given something that it cannot use: fix the call. */
export class InputError extends FlowError {
  declare readonly code: 'invalid-input'
  /** Name of the step whose call is wrong; absent when no step is involved. */
  readonly step?: string
  /** The field as `data.path`; absent when the whole input is meant. */
  readonly field?: string
  /** `file:line` of the call, where known. */
  readonly at?: string

  constructor(
    message: string,
    details: ErrorDetails & { step?: string | undefined; field?: string | undefined; at?: string | undefined } = {},
  ) {
    super('invalid-input', details.at ? `${message}\n    at ${details.at}` : message, details)
    if (details.step !== undefined) this.step = details.step
    if (details.field !== undefined) this.field = details.field
    if (details.at !== undefined) this.at = details.at
  }
}

/** Numbers that cannot be a parallel layout: choose others. The message names all factors and the nearest that would do. */
export class LayoutError extends FlowError {
  declare readonly code: 'invalid-layout'
  constructor(message: string, details: ErrorDetails = {}) {
    super('invalid-layout', message, details)
  }
}

/** What is planned cannot be carried out: of a graph its names or placement, of an account what is in the way; fix those. */
export class PlanError extends FlowError {
  declare readonly code: 'invalid-plan'
  constructor(message: string, details: ErrorDetails = {}) {
    super('invalid-plan', message, details)
  }
}

export interface FormatErrorDetails extends ErrorDetails {
  readonly file: string
  /** Position of the first wrong byte; absent when the file as a whole is meant. */
  readonly offset?: number | undefined
  readonly expected: string
  readonly found: string
}

/** A file is damaged, hostile or of another format: replace it. */
export class FormatError extends FlowError {
  declare readonly code: 'bad-format'
  readonly file: string
  readonly offset?: number
  readonly expected: string
  readonly found: string

  constructor(details: FormatErrorDetails) {
    const where = details.offset === undefined ? '' : ` (byte ${details.offset})`
    super('bad-format', `${details.file}: expected ${details.expected}, found ${details.found}${where}.`, details)
    this.file = details.file
    this.expected = details.expected
    this.found = details.found
    if (details.offset !== undefined) this.offset = details.offset
  }
}

/** A well-formed thing that this version does not know: wait or contribute. */
export class UnsupportedError extends FlowError {
  declare readonly code: 'unsupported'
  constructor(message: string, details: ErrorDetails = {}) {
    super('unsupported', message, details)
  }
}

/** The store's folder cannot be read or written (no space, no permission): make room or choose another. */
export class StoreError extends FlowError {
  declare readonly code: 'bad-store'
  constructor(message: string, details: ErrorDetails = {}) {
    super('bad-store', message, details)
  }
}

/** Another live process is working on the same call in the same store: wait for it, or use another store. */
export class LockedError extends FlowError {
  declare readonly code: 'locked'
  /** Process that holds the lock, on `host`. */
  readonly pid: number
  readonly host: string

  constructor(message: string, details: ErrorDetails & { pid: number; host: string }) {
    super('locked', message, details)
    this.pid = details.pid
    this.host = details.host
  }
}

/** A step gave up: read `cause`. */
export class StepError extends FlowError {
  declare readonly code: 'step-failed'
  readonly step: string
  readonly key: string
  readonly attempts: number
  /** The step's log file. */
  readonly logPath: string

  constructor(
    message: string,
    details: ErrorDetails & { step: string; key: string; attempts: number; logPath: string },
  ) {
    super('step-failed', message, details)
    this.step = details.step
    this.key = details.key
    this.attempts = details.attempts
    this.logPath = details.logPath
  }
}

export interface JobErrorDetails extends ErrorDetails {
  readonly executor: string
  /** The executor's id of the job. */
  readonly job: string
  readonly exitCode?: number | undefined
  /** True when the same job may well succeed the next time (a lost node, say). */
  readonly retryable: boolean
  /** The last lines of the job's output, oldest first. */
  readonly logTail: readonly string[]
  /** Why it failed, as far as its output and its end tell. */
  readonly failure?: JobFailure | undefined
}

/** A job ended badly: `failure` says why and what to do; retry it if `retryable`, otherwise read `logTail`. */
export class JobError extends FlowError {
  declare readonly code: 'job-failed'
  readonly executor: string
  readonly job: string
  readonly exitCode?: number
  readonly retryable: boolean
  readonly logTail: readonly string[]
  readonly failure?: JobFailure

  constructor(message: string, details: JobErrorDetails) {
    super('job-failed', message, details)
    this.executor = details.executor
    this.job = details.job
    this.retryable = details.retryable
    this.logTail = details.logTail
    if (details.exitCode !== undefined) this.exitCode = details.exitCode
    if (details.failure) this.failure = details.failure
  }
}

export interface ServiceErrorDetails extends ErrorDetails {
  /** The service that was asked: `modelarts`, `obs`. */
  readonly service: string
  /** HTTP status; absent when there was no answer. */
  readonly status?: number | undefined
  /** The service's own code, for example `ModelArts.2785`. */
  readonly serviceCode?: string | undefined
  /** What its support asks for. */
  readonly requestId?: string | undefined
  /** True when the same request may well succeed the next time. */
  readonly retryable: boolean
}

/** A service refused a request, or did not answer: do what the hint says, or try again if `retryable`. */
export class ServiceError extends FlowError {
  declare readonly code: 'service-failed'
  readonly service: string
  readonly status?: number
  readonly serviceCode?: string
  readonly requestId?: string
  readonly retryable: boolean

  constructor(message: string, details: ServiceErrorDetails) {
    super('service-failed', message, details)
    this.service = details.service
    this.retryable = details.retryable
    if (details.status !== undefined) this.status = details.status
    if (details.serviceCode !== undefined) this.serviceCode = details.serviceCode
    if (details.requestId !== undefined) this.requestId = details.requestId
  }
}

/** The run was cancelled, by `cancel()` or by its `AbortSignal`; `cause` is the signal's reason. */
export class CancelledError extends FlowError {
  declare readonly code: 'cancelled'
  constructor(message: string, details: ErrorDetails = {}) {
    super('cancelled', message, details)
  }
}

/** The run let go of its jobs, which go on without it; running the same graph on the same store follows them again. */
export class DetachedError extends FlowError {
  declare readonly code: 'detached'
  constructor(message: string, details: ErrorDetails = {}) {
    super('detached', message, details)
  }
}
