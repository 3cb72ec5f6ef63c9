import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  defineStep,
  type FlowEvent,
  JobError,
  type JobFailure,
  type JobNews,
  type JobUpdate,
  type JobWatch,
  run,
  type WatchFacts,
} from 'ascendflow'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { aborted, newFolder, scripted, succeeded } from './steps.ts'

let store: string
beforeEach(async () => {
  store = join(await newFolder(), 'store')
})
afterEach(() => {
  vi.useRealTimers()
})

const hang: JobFailure = { kind: 'hang', cause: 'it stood still', advice: 'Push it.', retry: 'now' }

/** A job whose watch does as its lines say: `news {…}` is told, and it hangs when `silence` ms pass without a line. */
function watched(over: { readonly silence?: number; readonly diagnosis?: JobFailure; collect?(): void } = {}) {
  const facts: WatchFacts[] = []
  const watch = (): JobWatch => {
    let last = Date.now()
    return {
      read: ({ text, at }) => {
        last = at
        return text.startsWith('news ') ? [JSON.parse(text.slice(5)) as JobNews] : []
      },
      dueAt: () => (over.silence === undefined ? undefined : last + over.silence),
      overdue: () => [{ type: 'stop', failure: hang }],
      diagnose: ({ state }) => over.diagnosis ?? { ...hang, kind: 'unknown', cause: state, retry: 'never' },
    }
  }
  const step = defineStep({ name: 'job', version: 1, input: z.object({}), output: z.object({}) }).job({
    launch: () => ({ argv: ['work'], nodes: 2, devicesPerNode: 8 }),
    watch: (_, told) => {
      facts.push(told)
      return watch()
    },
    collect: () => {
      over.collect?.()
      return {}
    },
  })
  return { step, facts }
}

const told = (news: JobNews): JobUpdate => ({ type: 'log', line: `news ${JSON.stringify(news)}` })
const note = async () => {
  const folder = join(store, 'steps', (await readdir(join(store, 'steps')))[0]!)
  return { file: join(folder, 'job.json'), text: await readFile(join(folder, 'job.json'), 'utf8').catch(() => '') }
}

/** Tells that the job runs, and then nothing until watching is stopped. */
async function* silent(_: string, signal: AbortSignal): AsyncIterable<JobUpdate> {
  yield { type: 'state', state: 'running' }
  await aborted(signal)
}

describe('what a watch tells', () => {
  it('becomes events, and knows what the job was given', async () => {
    const { step, facts } = watched()
    const checkpoint = { type: 'checkpoint', state: 'saved', iteration: 5, path: '/out' } as const
    const validation = { type: 'validation', iteration: 5, loss: 1.5, perplexity: 4.5 } as const
    const warning = { type: 'warning', about: 'log', text: 'look out' } as const
    const { executor } = scripted(() => [
      { type: 'state', state: 'running' },
      ...[told({ type: 'metrics', values: { loss: 2 } }), told(checkpoint), told(validation), told(warning)],
      succeeded,
    ])
    const premises = { device: { name: 'x' } as never, pricePerDeviceHour: 3 }
    const events: FlowEvent[] = []
    const running = run(step({}), { store, on: executor, premises })
    for await (const event of running.events()) events.push(event)
    const news = events.filter(({ type }) => /metrics|checkpoint|validation|warning/.test(type))
    expect(news).toMatchObject([
      { type: 'step.metrics', step: 'job', values: { loss: 2 } },
      ...[checkpoint, validation, warning].map(one => ({ ...one, type: `step.${one.type}`, step: 'job' })),
    ])
    expect(facts).toMatchObject([{ launch: { nodes: 2, devicesPerNode: 8 }, premises }])
    const [id = ''] = await readdir(join(store, 'runs'))
    expect(await readFile(join(store, 'runs', id, 'events.jsonl'), 'utf8')).toContain('"type":"step.warning"')
  })

  it('is made once the job runs: time in a queue is no silence', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
    const { step, facts } = watched({ silence: 1_000 })
    const { executor, cancelled } = scripted(async function* () {
      yield { type: 'state', state: 'pending' }
      vi.advanceTimersByTime(3_600_000)
      yield { type: 'state', state: 'running' }
      vi.advanceTimersByTime(900)
      yield succeeded
    })
    const begun = Date.now()
    await run(step({}), { store, on: executor })
    expect([facts[0]!.startedAt - begun, cancelled]).toEqual([3_600_000, []])
  })
})

describe('a job that its watch has stopped', () => {
  it('because it hangs is cancelled and tried again', async () => {
    const { step } = watched({ silence: 20 })
    const { executor, submitted, cancelled } = scripted((id, signal) =>
      id.endsWith('-1') ? silent(id, signal) : [succeeded],
    )
    const retried: unknown[] = []
    const running = run(step({}, { retryDelayMs: 0 }), { store, on: executor })
    running.on('step.retrying', ({ failure }) => retried.push(failure))
    expect(await running).toEqual({})
    expect(retried).toEqual([hang])
    expect([submitted, cancelled].map(ids => ids.map(id => id.slice(-2)))).toEqual([['-1', '-2'], ['-1']])
  })

  it('for good is cancelled, and its error says why and what to do', async () => {
    const failure: JobFailure = {
      ...{ kind: 'diverged', cause: 'the loss is not a number at iteration 7', advice: 'Lower lr.', retry: 'never' },
      evidence: { line: 'loss nan', number: 812, node: 1 },
      lost: { iterations: 2, seconds: 40, deviceHours: 0.5, price: 1.5 },
    }
    const { step } = watched()
    const { executor, submitted, cancelled } = scripted(async function* (_, signal) {
      yield told({ type: 'stop', failure })
      await aborted(signal)
    })
    const failed: unknown[] = []
    const running = run(step({}), { store, on: executor }).on('step.failed', event => failed.push(event.failure))
    const error = await running.catch(caught => caught)
    expect([submitted.length, cancelled.length, failed]).toEqual([1, 1, [failure]])
    expect(error.cause).toBeInstanceOf(JobError)
    expect([error.cause.failure, error.cause.retryable, error.cause.hint]).toEqual([failure, false, 'Lower lr.'])
    expect(error.message.replace(/job-[0-9a-f]{12}/, 'ID')).toBe(
      [
        'job: Job ID-1 on scripted was stopped.',
        'diverged: the loss is not a number at iteration 7',
        'line 812 of node 1: loss nan',
        'lost: 2 iterations, 0.50 device-hours, 1.50 in money',
        'Lower lr.',
      ].join('\n    '),
    )
    expect((await note()).text).toBe('')
  })

  it('is cancelled once more, not followed, by who comes after a crash in between', async () => {
    const { step } = watched()
    const first = scripted(silent)
    const running = run(step({}), { store, on: first.executor })
    running.on('job.state', () => void running.detach())
    await running.catch(() => {})
    const { file, text } = await note()
    await writeFile(file, JSON.stringify({ ...JSON.parse(text), stopping: true }))
    const second = scripted(() => [succeeded])
    await run(step({}), { store, on: second.executor })
    expect([second.cancelled, second.submitted].map(ids => ids.map(id => id.slice(-2)))).toEqual([['-1'], ['-2']])
  })
})

describe('a job that failed by itself', () => {
  const lost: JobUpdate = { type: 'state', state: 'lost' }

  it.each([
    ['now', 2],
    ['later', 2],
    ['elsewhere', 2],
    ['never', 1],
  ] as const)('and may be tried again %s is submitted %i times', async (retry, times) => {
    const { step } = watched({ diagnosis: { ...hang, kind: 'code', retry } })
    const { executor, submitted } = scripted(() => [lost])
    await run(step({}, { retries: 1, retryDelayMs: 0 }), { store, on: executor }).catch(() => {})
    expect(submitted.length).toBe(times)
  })

  it.each([
    ['now', undefined, [1_000, 2_000]],
    ['later', undefined, [60_000, 120_000]],
    ['later', 5, [5, 10]],
  ] as const)('waits for a try %s, with retryDelayMs %s, as long as %o ms', async (retry, retryDelayMs, delays) => {
    const { step } = watched({ diagnosis: { ...hang, kind: 'capacity', retry } })
    const { executor } = scripted(() => [lost])
    const options = { retries: 2, ...(retryDelayMs === undefined ? {} : { retryDelayMs }) }
    const running = run(step({}, options), { store, on: executor })
    const waited: number[] = []
    running.on('step.retrying', ({ delayMs }) => waited.push(delayMs))
    // A run that is cancelled while it waits ends at once.
    running.on('step.retrying', ({ attempt }) => attempt === 1 && delays[0] > 10 && void running.cancel())
    await running.catch(() => {})
    expect(waited).toEqual(delays.slice(0, waited.length))
    expect(waited.length).toBeGreaterThan(0)
  })

  it('without its output being there is judged by what it printed', async () => {
    const { step } = watched({
      diagnosis: { ...hang, kind: 'data', cause: 'a checkpoint is damaged', retry: 'never' },
      collect: () => {
        throw new JobError('Iteration 20 is missing.', {
          ...{ executor: 'x', job: 'y', retryable: true, logTail: ['could not load'], hint: 'Look.' },
        })
      },
    })
    const { executor, submitted } = scripted(() => [succeeded])
    const error = await run(step({}), { store, on: executor }).catch(caught => caught)
    expect(error.message).toBe('job: Iteration 20 is missing.\n    data: a checkpoint is damaged\n    Look.')
    expect([submitted.length, error.cause.failure.kind]).toEqual([1, 'data'])
  })

  it('without a word about why is tried again if its collecting says so', async () => {
    const { step } = watched({
      collect: () => {
        throw new JobError('Stopped early.', { executor: 'x', job: 'y', retryable: true, logTail: [] })
      },
    })
    const { executor, submitted } = scripted(() => [succeeded])
    await run(step({}, { retries: 1, retryDelayMs: 0 }), { store, on: executor }).catch(() => {})
    expect(submitted.length).toBe(2)
  })
})
