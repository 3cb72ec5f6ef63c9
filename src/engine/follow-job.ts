import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DetachedError, JobError, PlanError } from '../errors.ts'
import { type Body, bodyOf, type EndedJob, type StepContext } from '../flow/call.ts'
import type { EventBody } from '../flow/event.ts'
import type { Executor, JobHandle } from '../flow/executor.ts'
import type { JobFailure } from '../job-failure.ts'
import { createAlarm } from './alarm.ts'
import { readMetrics, writeMetrics } from './attempt-metrics.ts'
import { failedNodes, nodeToLeaveOut, noteFailedNode } from './failed-nodes.ts'
import { type JobNote, readJobNote, removeJobNote, writeJobNote } from './job-note.ts'
import { judgedError, stateError } from './job-verdict.ts'
import { launchOf } from './plan.ts'
import { asStoreError } from './store-error.ts'
import type { Work } from './survey.ts'
import { createWatcher } from './watcher.ts'

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
 * @throws JobError when it ended badly, or its step's watch had it stopped (after which the next call submits a new
 * one); the signal's reason when stopped: a cancelled job is gone by then, a detached one goes on.
 */
export async function followJob({ work, input, context, tell }: JobOptions): Promise<unknown> {
  const { places, key, call } = work
  const executor = work.executor!
  const body = bodyOf(call) as Extract<Body, { kind: 'job' }>
  const known = input as Record<string, unknown>
  let note = await notedJob(work, input)
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
  if (!note.handle) {
    note = await submit(work, note, input, context.signal)
    await tellLeftOut(work, note, context)
  }
  const handle = note.handle!
  const ofStep = { step: call.name, key }
  await tell({ type: 'job.submitted', ...ofStep, job: handle })
  const tail: string[] = []
  const ended: EndedJob & { lastMetrics: Record<string, number> } = { job: handle, lastMetrics: {}, logTail: tail }
  const watcher = createWatcher({ body, input: known, note, premises: work.premises }, event => {
    if (event.type === 'step.metrics') Object.assign(ended.lastMetrics, event.values)
    if (event.type === 'step.validation') ended.lastMetrics.validationLoss = event.loss
    return tell({ ...event, ...ofStep } as EventBody)
  })
  const alarm = createAlarm(watcher.dueAt, watcher.overdue)
  const about = { executor: executor.name, job: handle.id, logTail: tail }
  try {
    for await (const update of executor.watch(handle, {
      signal: AbortSignal.any([context.signal, watcher.stopped]),
    })) {
      if (update.type === 'log') {
        tail.push(update.line)
        if (tail.length > tailLines) tail.shift()
        const { line, node } = update
        await tell({ type: 'step.log', ...ofStep, line, ...(node === undefined ? {} : { node }) })
        await watcher.read(update)
        alarm.set()
        if (watcher.stopped.aborted) break
        continue
      }
      const { state, reason } = update
      await tell({ type: 'job.state', ...ofStep, state, ...(reason ? { reason } : {}) })
      if (state === 'pending') continue
      if (state === 'running') {
        note = await noteStart(places.job, note)
        watcher.begin()
        alarm.set()
        continue
      }
      alarm.clear()
      await writeMetrics(places.attempts, note.attempt, ended.lastMetrics)
      if (state !== 'succeeded') {
        await removeJobNote(places.job)
        const failure = watcher.diagnose({ ...update, state })
        if (failure) await leaveOut(places.attempts, note, { failure, node: update.node })
        throw stateError(about, update, failure)
      }
      return await collected(() => body.collect(known, { ...context, ...ended }), { note: places.job, watcher })
    }
  } catch (error) {
    if (context.signal.aborted) await letGo(executor, handle, places.job, context.signal.reason)
    context.signal.throwIfAborted()
    if (!watcher.stopped.aborted || error instanceof JobError) throw error
  } finally {
    alarm.clear()
  }
  context.signal.throwIfAborted()
  if (watcher.stopped.aborted) {
    // Noted first: whoever comes after a crash here must not take the cancelled job for one that somebody else stopped.
    await writeJobNote(places.job, { ...note, stopping: true })
    await writeMetrics(places.attempts, note.attempt, ended.lastMetrics)
    await executor.cancel(handle)
    await leaveOut(places.attempts, note, { failure: watcher.stopped.reason })
    await removeJobNote(places.job)
    throw judgedError(about, 'was stopped', watcher.stopped.reason)
  }
  throw new JobError(`${executor.name} stopped telling about job ${handle.id} before it ended.`, {
    ...{ ...about, retryable: true },
  })
}

/** The job to go on with. One that was being stopped when this process's forerunner died is stopped first. */
async function notedJob(work: Work, input: unknown): Promise<JobNote | undefined> {
  const note = await readJobNote(work.places.job)
  if (note && note.executor !== work.executor?.name) throw elsewhere(work, note)
  if (!note?.stopping) return note
  await cancelNotedJob(work, input)
  return undefined
}

/** Notes when the job was first seen running, which its cost is reckoned from. */
async function noteStart(path: string, note: JobNote): Promise<JobNote> {
  if (note.startedAt !== undefined) return note
  const started = { ...note, startedAt: Date.now() }
  await writeJobNote(path, started)
  return started
}

interface CollectedOptions {
  readonly note: string
  readonly watcher: Pick<ReturnType<typeof createWatcher>, 'diagnose'>
}

/**
 * What `collect` gives. A JobError from it says that the job, whatever its exit status, did not do its work: the next
 * attempt submits a new one. After any other failure the job stays noted, so that only collecting is done again.
 */
async function collected(collect: () => unknown, { note, watcher }: CollectedOptions): Promise<unknown> {
  try {
    const output = await collect()
    await removeJobNote(note)
    return output
  } catch (error) {
    if (!(error instanceof JobError)) throw error
    await removeJobNote(note)
    const failure = error.failure ?? watcher.diagnose({ state: 'unproved' })
    if (!failure) throw error
    const { hint, cause, executor, job, exitCode, logTail, retryable } = error
    const about = { executor, job, exitCode, logTail, cause }
    const message = hint ? error.message.slice(0, -hint.length - 1) : error.message
    // Where its output says nothing, what collecting found missing says it all.
    if (failure.kind === 'unknown' && !failure.evidence)
      throw new JobError(message, {
        ...{ ...about, hint, retryable, failure: { ...failure, retry: retryable ? 'now' : 'never' } },
      })
    throw judgedError(about, '', failure, { message, hint })
  }
}

/** Cancels the job noted in `job.json`, if there is one, and forgets it. */
export async function cancelNotedJob(work: Work, input: unknown): Promise<void> {
  const note = await readJobNote(work.places.job)
  if (!note) return
  const executor = work.executor
  if (!executor || note.executor !== executor.name) throw elsewhere(work, note)
  // A submission whose answer was lost is found again by submitting the same id.
  const handle = note.handle ?? (await submit(work, note, input, new AbortController().signal)).handle!
  await executor.cancel(handle)
  await removeJobNote(work.places.job)
}

async function submit(work: Work, note: JobNote, input: unknown, signal: AbortSignal): Promise<JobNote> {
  const { places, executor } = work
  const logDir = join(places.attempts, String(note.attempt))
  await mkdir(logDir, { recursive: true }).catch(asStoreError(logDir))
  const launch = await launchOf(work, input)
  const avoid = await failedNodes(places.attempts, note.attempt)
  const options = { id: note.id, logDir, signal, ...(avoid.length > 0 ? { avoid } : {}) }
  const handle = await executor!.submit(launch, options)
  const { nodes, devicesPerNode } = launch
  const submitted = { ...note, handle, nodes, devicesPerNode }
  await writeJobNote(places.job, submitted)
  return submitted
}

/** Notes which node the tries to come are to keep away from, if one is to blame. */
async function leaveOut(
  attempts: string,
  { attempt, handle, nodes }: JobNote,
  { failure, node }: { readonly failure: JobFailure; readonly node?: number | undefined },
): Promise<void> {
  const failed = nodeToLeaveOut(failure, { node, nodes })
  if (failed !== undefined) await noteFailedNode(attempts, attempt, { job: handle!, node: failed })
}

async function tellLeftOut({ places, executor }: Work, { attempt, handle }: JobNote, { log }: StepContext) {
  const { leftOut = [] } = handle!
  if (leftOut.length > 0) log(`leaves out ${leftOut.join(', ')}, where an earlier try failed`)
  else if ((await failedNodes(places.attempts, attempt)).length > 0)
    log(`${executor!.name} cannot leave out the node where an earlier try failed: it may be used again`)
}

async function letGo(executor: Executor, handle: JobHandle, note: string, reason: unknown): Promise<void> {
  if (reason instanceof DetachedError) return
  await executor.cancel(handle)
  await removeJobNote(note)
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
