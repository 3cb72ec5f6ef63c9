import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { isFlowError } from '../errors.ts'
import type { Call } from '../flow/call.ts'
import type { EventBody, EventOf, FlowEvent } from '../flow/event.ts'
import { resolveRefs } from '../flow/graph.ts'
import type { Out, Target } from '../flow/ref.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import { carryOut } from './carry-out.ts'
import { createEventHub } from './event-hub.ts'
import { writeGoodRun } from './good-run.ts'
import { createHalt } from './halt.ts'
import { type PlanOptions, surveyOptions } from './plan.ts'
import { schedule } from './schedule.ts'
import { asStoreError } from './store-error.ts'
import { type Survey, survey, type Work } from './survey.ts'

export interface RunOptions extends PlanOptions {
  /** Cancels the run when aborted, back-off waits included. */
  readonly signal?: AbortSignal
  /** Calls at work at the same time; default: the machine's processors, at least 2. */
  readonly concurrency?: number
}

/** A run: a promise of the target's value that can also be listened to and stopped. */
export interface Run<T> extends Promise<T>, AsyncDisposable {
  readonly id: string
  /** Calls `listener` for each event of one type; what it throws becomes a process warning and harms nothing. */
  on<E extends FlowEvent['type']>(type: E, listener: (event: EventOf<E>) => void): Run<T>
  /**
   * All events from the call on, at the reader's pace: who lags more than 1,024 events behind slows down the jobs'
   * logs, so do not await the run inside the loop. Failures are still told by the promise only.
   */
  events(): AsyncIterableIterator<FlowEvent>
  /** Stops everything, jobs included; resolves when nothing is left running. The promise rejects as `cancelled`. */
  cancel(reason?: unknown): Promise<void>
  /** Stops this process's part and leaves jobs running; the same graph on the same store follows them again. */
  detach(): Promise<void>
}

/**
 * Carries out `target`: what is recorded in the store is skipped, jobs still alive are followed, the rest is done.
 * Running the same graph on the same store again is resuming.
 *
 * When a call fails, calls already at work are finished and recorded, no new one begins, and the promise rejects.
 * @throws StepError, PlanError, InputError, LayoutError, StoreError, LockedError, CancelledError, DetachedError.
 */
export function run<R extends Target>(target: R, options: RunOptions = {}): Run<Out<R>> {
  const id = `${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}-${randomBytes(3).toString('hex')}`
  const halt = createHalt(options.signal)
  const hub = createEventHub(error => process.emitWarning(error instanceof Error ? error : String(error)))
  const emit = (event: EventBody) => hub.emit({ run: id, at: new Date().toISOString(), ...event } as FlowEvent)

  const promise = (async () => {
    // Listeners are attached in the same tick as the call.
    await Promise.resolve()
    let state: EventOf<'run.finished'>['state'] = 'failed'
    let news: News | undefined
    try {
      halt.signal.throwIfAborted()
      const chosen = surveyOptions(options)
      const found = await survey(target, chosen)
      halt.signal.throwIfAborted()
      news = await openNews(found, chosen.store, id)
      for (const type of eventTypes) hub.on(type, news.add)
      emit({ type: 'run.started', steps: found.work.map(work => work.call.name) })
      const outputs = await schedule(found.work, {
        concurrency: options.concurrency ?? Math.max(2, availableParallelism()),
        signal: halt.signal,
        carryOut: (work, outputOf) => doOrSkip(work, outputOf),
      })
      await writeGoodRun(chosen.store, id, found.work)
      state = 'succeeded'
      return resolveRefs(target, call => outputs.get(found.workOf(call))) as Out<R>

      async function doOrSkip(work: Work, outputOfWork: (work: Work) => unknown): Promise<unknown> {
        const { record, call, key, facts } = work
        if (record) {
          emit({ type: 'step.skipped', step: call.name, key, recordedAt: record.finishedAt, facts })
          return record.output
        }
        const outputOf = (other: Call) => outputOfWork(found.workOf(other))
        const recheck = () => found.recordOf(work)
        return (await carryOut({ work, signal: halt.signal, outputOf, recheck, emit, settled: hub.settled })).output
      }
    } catch (error) {
      if (isFlowError(error) && (error.code === 'cancelled' || error.code === 'detached')) state = error.code
      throw error
    } finally {
      emit({ type: 'run.finished', state })
      halt.release()
      hub.close()
      await news?.close()
    }
  })()

  // Handling the failure here marks the promise as observed, so this is done only for those who asked.
  const finished = () =>
    promise.then(
      () => {},
      () => {},
    )
  const stop = (tell: () => void) => {
    tell()
    return finished()
  }
  const self: Run<Out<R>> = Object.assign(promise, {
    id,
    on: <E extends FlowEvent['type']>(type: E, listener: (event: EventOf<E>) => void) => {
      hub.on(type, listener)
      return self
    },
    events: () => {
      void finished()
      return hub.events()
    },
    cancel: (reason?: unknown) => stop(() => halt.cancel(reason)),
    detach: () => stop(halt.detach),
    [Symbol.asyncDispose]: () => stop(halt.cancel),
  })
  return self
}

const eventTypes: readonly FlowEvent['type'][] = [
  ...(['run.started', 'run.finished', 'step.skipped', 'step.started', 'step.progress', 'step.metrics'] as const),
  ...(['step.checkpoint', 'step.validation', 'step.warning'] as const),
  ...(['step.retrying', 'step.succeeded', 'step.failed', 'job.submitted', 'job.state'] as const),
]

interface News {
  add(event: FlowEvent): void
  close(): Promise<void>
}

/** `<store>/runs/<id>/`: the plan and the events of a run, for people; nothing reads them back. */
async function openNews(found: Survey, store: string, id: string): Promise<News> {
  const folder = join(store, 'runs', id)
  await mkdir(folder, { recursive: true }).catch(asStoreError(folder))
  const steps = found.work.map(({ call, key, record, reason }) => ({
    name: call.name,
    step: call.step.spec.name,
    key,
    ...(record ? { recordedAt: record.finishedAt } : { reason }),
  }))
  await writeWhole(join(folder, 'plan.json'), `${JSON.stringify({ steps }, null, 2)}\n`).catch(asStoreError(folder))
  // News that cannot be written (a full disk) must not fail the work that they are about.
  const file = createWriteStream(join(folder, 'events.jsonl'), { flags: 'a' }).on('error', () => {})
  return {
    add: event =>
      file.write(
        `${JSON.stringify(event, (_, value) => (value instanceof Error ? { name: value.name, message: value.message } : value))}\n`,
      ),
    close: () => new Promise(resolve => (file.errored ? resolve() : file.end(resolve))),
  }
}
