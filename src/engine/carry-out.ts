import { createWriteStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import pRetry from 'p-retry'
import { CancelledError, DetachedError, FlowError, InputError, isFlowError, JobError, StepError } from '../errors.ts'
import { bodyOf, type Call, type StepContext } from '../flow/call.ts'
import type { EventBody } from '../flow/event.ts'
import type { JobFailure } from '../job-failure.ts'
import { cancelNotedJob, followJob } from './follow-job.ts'
import { takeLock } from './lock.ts'
import { outputFiles, type StepRecord, writeRecord } from './record.ts'
import { isRetryable, retryDelayMs } from './retryable.ts'
import { asStoreError, storageProblem } from './store-error.ts'
import { parseInput, summaryOf, type Work } from './survey.ts'

export interface CarryOutOptions {
  readonly work: Work
  readonly signal: AbortSignal
  outputOf(call: Call): unknown
  /** The valid record as of now: another process may have finished the work since the survey. */
  recheck(): Promise<StepRecord | undefined>
  emit(event: EventBody): void
  /** Resolves when whoever reads the events keeps up. */
  settled(): Promise<void>
}

/**
 * Does one piece of work under its lock and returns its record.
 * @throws StepError with the cause; LockedError; StoreError; the signal's reason when stopped.
 */
export async function carryOut(options: CarryOutOptions): Promise<StepRecord> {
  const { work, signal } = options
  signal.throwIfAborted()
  const unlock = await takeLock(work.places.lock, work.call.name)
  try {
    const since = work.again ? undefined : await options.recheck()
    if (since) {
      options.emit({
        ...{ type: 'step.skipped', step: work.call.name, key: work.key, recordedAt: since.finishedAt },
        facts: summaryOf(work.call, since.output) ?? work.facts,
      })
      return since
    }
    return await attemptAll(options)
  } finally {
    await unlock()
  }
}

async function attemptAll(options: CarryOutOptions): Promise<StepRecord> {
  const { work, signal, emit, settled } = options
  const { call, key, places } = work
  const isJob = bodyOf(call).kind === 'job'
  const startedAt = new Date()
  let attempts = 0
  const input = parseInput(call, options.outputOf)
  if (work.again) await forget(work, input)
  await mkdir(places.workDir, { recursive: true }).catch(asStoreError(places.workDir))
  // A job's output is told from its first line again whenever it is followed; a function's lines are told once.
  const log = createWriteStream(places.log, { flags: isJob ? 'w' : 'a' }).on('error', () => {})
  const tell = async (event: EventBody) => {
    if (event.type === 'step.log') log.write(`${event.line}\n`)
    emit(event)
    await settled()
  }
  try {
    const record = await pRetry(
      async attempt => {
        attempts = attempt
        emit({ type: 'step.started', step: call.name, key, attempt, reason: work.reason })
        const output = await attemptOnce({ work, input, signal, attempt, tell })
        await settled()
        const record: StepRecord = {
          ...{ format: 1, step: call.step.spec.name, version: call.step.spec.version, key, name: call.name },
          ...{ input: work.input, output, files: await outputFiles(output), attempts },
          ...{ startedAt: startedAt.toISOString(), finishedAt: new Date().toISOString() },
        }
        await writeRecord(places.record, record, places)
        return record
      },
      {
        retries: call.options.retries ?? (isJob ? 2 : 0),
        // How long to wait depends on the failure, so the waiting is done here.
        ...{ minTimeout: 0, signal },
        shouldRetry: ({ error }) => !signal.aborted && isRetryable(error),
        onFailedAttempt: async ({ error, attemptNumber: attempt, retriesLeft }) => {
          if (retriesLeft === 0 || signal.aborted || !isRetryable(error)) return
          const delayMs = retryDelayMs(error, { failed: attempt, firstMs: call.options.retryDelayMs })
          emit({ type: 'step.retrying', step: call.name, key, attempt, delayMs, error, ...failureOf(error) })
          await sleep(delayMs, undefined, { signal })
        },
      },
    )
    emit({
      type: 'step.succeeded',
      step: call.name,
      key,
      durationMs: Date.now() - startedAt.getTime(),
      output: record.output,
      facts: summaryOf(call, record.output) ?? [],
    })
    return record
  } catch (error) {
    if (signal.aborted) throw signal.reason
    const failure = stepError(error, work, attempts)
    emit({ type: 'step.failed', step: call.name, key, error: failure, ...failureOf(error) })
    throw failure
  } finally {
    await new Promise<void>(resolve => log.end(resolve))
  }
}

interface Attempt {
  readonly work: Work
  readonly input: unknown
  readonly signal: AbortSignal
  readonly attempt: number
  tell(event: EventBody): Promise<void>
}

async function attemptOnce({ work, input, signal, attempt, tell }: Attempt): Promise<unknown> {
  const { call, key, places } = work
  const { spec } = call.step
  const body = bodyOf(call)
  const limit = call.options.timeoutMs
  const ended = limit === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(limit)])
  const say = (event: EventBody) => void tell(event)
  const context: StepContext = {
    ...{ workDir: places.workDir, signal: ended, attempt },
    log: line => say({ type: 'step.log', step: call.name, key, line }),
    progress: (done, total) =>
      say({ type: 'step.progress', step: call.name, key, done, ...(total === undefined ? {} : { total }) }),
    metrics: values => say({ type: 'step.metrics', step: call.name, key, values }),
  }
  let output: unknown
  try {
    output = body.kind === 'run' ? await body.run(input, context) : await followJob({ work, input, context, tell })
    ended.throwIfAborted()
  } catch (error) {
    if (signal.aborted || !ended.aborted) throw error
    throw new FlowError('step-failed', `${call.name}: it took longer than ${limit} ms.`, {
      hint: 'Raise timeoutMs, or find out what holds it up.',
      cause: ended.reason,
    })
  }
  const parsed = spec.output.safeParse(output)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new InputError(
    `its output does not fit its schema: ${issue?.path.map(String).join('.') || 'output'}: ${issue?.message}.`,
    { hint: "Correct what the step returns, or its 'output' schema.", cause: parsed.error },
  )
}

/** Done again from the beginning: nothing of the earlier result may be taken for the new one. */
async function forget(work: Work, input: unknown): Promise<void> {
  const { record, workDir, attempts, log } = work.places
  await cancelNotedJob(work, input)
  await rm(record, { force: true })
  for (const path of [workDir, attempts, log]) await rm(path, { recursive: true, force: true })
}

const failureOf = (error: unknown): { readonly failure?: JobFailure } =>
  error instanceof JobError && error.failure ? { failure: error.failure } : {}

function stepError(error: unknown, { call, key, places }: Work, attempts: number): FlowError {
  if (
    isFlowError(error) &&
    (error.code === 'bad-store' || error instanceof CancelledError || error instanceof DetachedError)
  )
    return error
  const reason = storageProblem(error, places.dir)?.what ?? (error instanceof Error ? error.message : String(error))
  const text =
    reason.startsWith(`${call.name}: `) || reason.startsWith(`${call.name}.`) ? reason : `${call.name}: ${reason}`
  return new StepError(text, {
    step: call.name,
    key,
    attempts,
    logPath: places.log,
    hint: storageProblem(error, places.dir)?.hint,
    cause: error,
  })
}
