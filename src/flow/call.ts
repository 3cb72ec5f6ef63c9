import type { z } from 'zod'
import type { Estimate, Premises } from './estimate.ts'
import type { Executor, JobHandle } from './executor.ts'
import type { JobWatch, WatchFacts } from './job-watch.ts'
import type { Launch } from './launch.ts'
import type { Ref } from './ref.ts'

export type Awaitable<T> = T | Promise<T>

/** What a running step may use; nothing else is there. */
export interface StepContext {
  /** A folder of this call's own, kept between attempts and across crashes; write outputs here. */
  readonly workDir: string
  /** Aborted when the run is cancelled, detached or out of time. */
  readonly signal: AbortSignal
  /** 1 for the first try. */
  readonly attempt: number
  /** Adds a line to the call's log. */
  log(line: string): void
  /** Says how far it is, in any unit; `total` may be left out when it is not known. */
  progress(done: number, total?: number): void
  /** Reports numbers by name: `{ loss: 2.31 }`. */
  metrics(values: Readonly<Record<string, number>>): void
}

export interface StepSpec<I extends z.ZodObject, O extends z.ZodType> {
  /** Default name of its calls and part of their keys: letters, digits, `.`, `_` and `-`. */
  readonly name: string
  /** Raise it when the meaning of the step changes: recorded results of other versions are not used. */
  readonly version: number
  readonly input: I
  /** Small JSON; bytes live at the paths that it names. */
  readonly output: O
  /** Input fields that do not change the result (`workers`, `threads`) and so do not count in the key. */
  readonly omitFromKey?: readonly (keyof z.input<I>)[]
  /**
   * Called at plan time with what is known of the input by then: literals with defaults applied, recorded outputs,
   * and what upstream steps foretell. A field that the call leaves out is there as undefined, one that is not known yet is
   * not there. Throws when that cannot work; returns facts for the printed plan. Not called for
   * a recorded call that `summarize` can speak for.
   */
  check?(known: Known<z.output<I>>): Awaitable<readonly string[]>
  /**
   * Calls that have to come before this one, told by what is known of its input when the plan is made: by input field,
   * refs made of what the call was `given`, whose outputs it gets instead. They are planned, recorded and skipped as any.
   */
  insert?(
    known: Known<z.output<I>>,
    given: Readonly<Record<string, unknown>>,
  ): Readonly<Record<string, Ref<unknown>>> | undefined
  /** What is likely not meant about where the call is to run, for the printed plan; `executor` only for a job. */
  warn?(known: Known<z.output<I>>, executor: Placed | undefined): readonly string[]
  /** What the job would take on NPUs, as far as it is known; asked for by a plan with premises. */
  estimate?(known: Known<z.output<I>>, premises: Premises): Awaitable<Estimate | undefined>
  /** What the output comes to, in a few words each: printed when the call is done, and where its record is found. */
  summarize?(output: z.output<O>): readonly string[]
  /** What follows of the output from the input alone, so that later calls can be checked before anything runs. */
  foretell?(known: Known<z.output<I>>): Awaitable<Known<z.output<O>>>
}

/** A value of which only parts are known yet: any field, at any depth, may be absent. */
export type Known<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]?: Known<T[K]> | undefined }
    : T

/** What is known of an executor when a plan is made. */
export type Placed = Pick<Executor, 'name' | 'devicesPerNode'>

/** Numbers by name. */
export type Metrics = Readonly<Record<string, number>>

/** A job as it ended, for its step to judge what it did. */
export interface EndedJob {
  readonly job: JobHandle
  /** The last value of each number that `watch` or `metricsFrom` found in its output. */
  readonly lastMetrics: Metrics
  /** The last lines of its output, oldest first. */
  readonly logTail: readonly string[]
}

export interface JobBody<I extends z.ZodObject, O extends z.ZodType, Input = z.output<I>> {
  /**
   * The command as data. It changes nothing, since it is also called to print the plan, but may read files: those of
   * the input, and what earlier attempts left in `workDir`.
   */
  launch(input: Input, context: Pick<StepContext, 'workDir'>): Awaitable<Launch>
  /**
   * Puts `workDir` in order before a job is submitted, so that nothing half-written gets into what it makes. Never called
   * while a job of this call may be alive; a crash may have it called twice. `lastMetrics` are those of the attempt
   * before, as far as they were seen.
   */
  prepare?(input: Input, context: StepContext & Pick<EndedJob, 'lastMetrics'>): Awaitable<void>
  /** Reads the output of one job: metrics, checkpoints, warnings, when it hangs, why it failed. */
  watch?(input: Input, facts: WatchFacts): JobWatch
  /** Numbers found in one line of output; undefined when the line holds none. The short form of `watch`. */
  metricsFrom?(line: string, input: Input): Metrics | undefined
  /**
   * The output, from what the succeeded job left in `workDir`. Throw a JobError when the job did not do its work, for
   * all that its exit status says: then the next attempt submits a new one.
   */
  collect(input: Input, context: StepContext & EndedJob): Awaitable<z.input<O>>
}

export interface CallOptions {
  /** Name of this call in plan, events and logs; default: the step's name. Not part of the key. */
  readonly name?: string
  /** Extra tries after failures that may pass (lost node, network); default: 2 for a job, 0 for a function step. */
  readonly retries?: number
  /** Wait before the first extra try, in ms, doubled for each further one up to a minute; default 1,000. */
  readonly retryDelayMs?: number
  /** Time for one try, in ms; default: no limit. */
  readonly timeoutMs?: number
  /** Calls to wait for although no data comes from them. Not part of the key. */
  readonly after?: readonly Ref<unknown>[]
}

/** How a call is carried out, with the types forgotten. */
export type Body =
  | { readonly kind: 'run'; run(input: unknown, context: StepContext): Awaitable<unknown> }
  | ({ readonly kind: 'job' } & JobBody<z.ZodObject, z.ZodType>)

/** A step with its types forgotten, as the engine sees it. */
export interface StepDefinition {
  readonly spec: StepSpec<z.ZodObject, z.ZodType>
  readonly body: Body
  /** Instead of `body` for calls whose input has `field`. */
  readonly bodyWith?: { readonly field: string; readonly body: Body } | undefined
}

/** One use of a step in a graph. */
export interface Call {
  readonly step: StepDefinition
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
  readonly options: CallOptions
  /** `file:line` of the call in the user's code, where known. */
  readonly at?: string
}

/** How a call is carried out: known from the graph alone, since what decides it takes no ref. */
export function bodyOf({ step: { body, bodyWith }, input }: Call): Body {
  return bodyWith && input[bodyWith.field] !== undefined ? bodyWith.body : body
}
