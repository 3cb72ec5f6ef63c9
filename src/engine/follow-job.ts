import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DetachedError, JobError, PlanError } from '../errors.ts'
import { type Body, bodyOf, type EndedJob, type StepContext } from '../flow/call.ts'
import type { EventBody } from '../flow/event.ts'
import type { Executor, JobHandle, JobUpdate } from '../flow/executor.ts'
import { readMetrics, writeMetrics } from './attempt-metrics.ts'
import { type JobNote, readJobNote, removeJobNote, writeJobNote } from './job-note.ts'
import { launchOf } from './plan.ts'
import { asStoreError } from './store-error.ts'
import type { Work } from './survey.ts'

const tailLines = 40

export interface JobOptions {
  readonly work: Work
  readonly input: unknown
  readonly context: StepContext
  /** Tells an event about this call; resolves when listeners keep up. */
  tell(event: EventBody): Promise<void>
}

/**
 * Sees one job through: follows the one noted in `job.json`, or submits one, until it has ended well.
 * @throws JobError when it ended badly (after which the next call submits a new one); the signal's reason when
 * stopped: a cancelled job is gone by then, a detached one goes on.
 */
export async function followJob({ work, input, context, tell }: JobOptions): Promise<unknown> {
  const { places, key, call } = work
  const executor = work.executor!
  const body = bodyOf(call) as Extract<Body, { kind: 'job' }>
  const known = input as Record<string, unknown>
  let note = await readJobNote(places.job)
  if (note && note.executor !== executor.name) throw elsewhere(work, note)
  if (!note) {
    const before = await newestAttempt(places.attempts)
    // Without a note no job can be alive, so that this is the time to touch what jobs write.
    await body.prepare?.(known, { ...context, lastMetrics: await readMetrics(places.attempts, before) })
    // What cannot be launched is not noted: nothing of it would ever be alive.
    await launchOf(work, input)
    const attempt = 1 + before
    note = { attempt, id: `${call.step.spec.name}-${key.slice(0, 12)}-${attempt}`, executor: executor.name }
    await writeJobNote(places.job, note)
  }
  const handle = note.handle ?? (await submit(work, note, input, context.signal))
  await tell({ type: 'job.submitted', step: call.name, key, job: handle })
  const tail: string[] = []
  const ended: EndedJob & { lastMetrics: Record<string, number> } = { job: handle, lastMetrics: {}, logTail: tail }
  try {
    for await (const update of executor.watch(handle, { signal: context.signal })) {
      if (update.type === 'log') {
        tail.push(update.line)
        if (tail.length > tailLines) tail.shift()
        await tell({
          type: 'step.log',
          step: call.name,
          key,
          line: update.line,
          ...(update.node === undefined ? {} : { node: update.node }),
        })
        const values = body.metricsFrom?.(update.line, known)
        Object.assign(ended.lastMetrics, values)
        if (values) await tell({ type: 'step.metrics', step: call.name, key, values })
        continue
      }
      await tell({
        type: 'job.state',
        step: call.name,
        key,
        state: update.state,
        ...(update.reason ? { reason: update.reason } : {}),
      })
      if (update.state === 'pending' || update.state === 'running') continue
      await writeMetrics(places.attempts, note.attempt, ended.lastMetrics)
      if (update.state !== 'succeeded') {
        await removeJobNote(places.job)
        throw jobError(executor, handle, update, tail)
      }
      const output = await collected(() => body.collect(known, { ...context, ...ended }), places.job)
      return output
    }
  } catch (error) {
    if (context.signal.aborted) await letGo(executor, handle, places.job, context.signal.reason)
    context.signal.throwIfAborted()
    throw error
  }
  context.signal.throwIfAborted()
  throw new JobError(`${executor.name} stopped telling about job ${handle.id} before it ended.`, {
    ...{ executor: executor.name, job: handle.id, retryable: true, logTail: tail },
  })
}

/**
 * What `collect` gives. A JobError from it says that the job, whatever its exit status, did not do its work: the next
 * attempt submits a new one. After any other failure the job stays noted, so that only collecting is done again.
 */
async function collected(collect: () => unknown, note: string): Promise<unknown> {
  try {
    const output = await collect()
    await removeJobNote(note)
    return output
  } catch (error) {
    if (error instanceof JobError) await removeJobNote(note)
    throw error
  }
}

/** Cancels the job noted in `job.json`, if there is one, and forgets it. */
export async function cancelNotedJob(work: Work, input: unknown): Promise<void> {
  const note = await readJobNote(work.places.job)
  if (!note) return
  const executor = work.executor
  if (!executor || note.executor !== executor.name) throw elsewhere(work, note)
  // A submission whose answer was lost is found again by submitting the same id.
  const handle = note.handle ?? (await submit(work, note, input, new AbortController().signal))
  await executor.cancel(handle)
  await removeJobNote(work.places.job)
}

async function submit(work: Work, note: JobNote, input: unknown, signal: AbortSignal): Promise<JobHandle> {
  const { places, executor } = work
  const logDir = join(places.attempts, String(note.attempt))
  await mkdir(logDir, { recursive: true }).catch(asStoreError(logDir))
  const handle = await executor!.submit(await launchOf(work, input), { id: note.id, logDir, signal })
  await writeJobNote(places.job, { ...note, handle })
  return handle
}

async function letGo(executor: Executor, handle: JobHandle, note: string, reason: unknown): Promise<void> {
  if (reason instanceof DetachedError) return
  await executor.cancel(handle)
  await removeJobNote(note)
}

function jobError(
  executor: Executor,
  handle: JobHandle,
  { state, exitCode, reason }: Extract<JobUpdate, { type: 'state' }>,
  logTail: readonly string[],
): JobError {
  const status = exitCode === undefined ? '' : ` with exit code ${exitCode}`
  const last = logTail.filter(line => line.trim() !== '').at(-1)
  return new JobError(
    `Job ${handle.id} on ${executor.name} ${state === 'lost' ? 'was lost' : `ended as ${state}`}${status}${reason ? ` (${reason})` : ''}${last ? `: ${last.trim()}` : '.'}`,
    { executor: executor.name, job: handle.id, exitCode, retryable: state === 'lost', logTail: [...logTail] },
  )
}

function elsewhere(work: Work, note: JobNote): PlanError {
  return new PlanError(
    `${work.call.name}: its job ${note.id} was submitted on ${note.executor}, and is now placed on ${work.executor?.name ?? 'none'}.`,
    { hint: `Place it on ${note.executor} to follow or cancel it, or remove ${work.places.job} if it is surely gone.` },
  )
}

async function newestAttempt(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => [])
  return names
    .map(Number)
    .filter(Number.isSafeInteger)
    .reduce((a, b) => Math.max(a, b), 0)
}
