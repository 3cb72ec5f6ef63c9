import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineStep, JobError, type JobUpdate, plan, run, StepError } from 'ascendflow'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { endless, job, newFolder, scripted, succeeded, write } from './steps.ts'

let store: string
beforeEach(async () => {
  store = join(await newFolder(), 'store')
})

const stepFolder = async () =>
  join(store, 'steps', (await readdir(join(store, 'steps'))).find(name => name.startsWith('job-'))!)

describe('a job', () => {
  it('tells its lines, metrics and states as events, in order', async () => {
    const lines: readonly JobUpdate[] = [
      { type: 'state', state: 'running' },
      { type: 'log', line: 'loss 2.5' },
      { type: 'log', line: 'done', node: 1 },
      succeeded,
    ]
    const { executor } = scripted(() => lines)
    const events: string[] = []
    const running = run(job({ n: 1 }), { store, on: executor })
    for await (const event of running.events()) {
      if (event.type === 'step.log') events.push(`log ${event.line} ${event.node ?? ''}`.trim())
      else if (event.type === 'step.metrics') events.push(`metrics ${JSON.stringify(event.values)}`)
      else if (event.type === 'job.state') events.push(event.state)
      else events.push(event.type)
    }
    expect(await running).toEqual({ n: 1 })
    expect(events).toEqual([
      ...['run.started', 'step.started', 'job.submitted', 'running', 'log loss 2.5', 'metrics {"loss":2.5}'],
      ...['log done 1', 'succeeded', 'step.succeeded', 'run.finished'],
    ])
    expect(await readFile(join(await stepFolder(), 'log.txt'), 'utf8')).toBe('loss 2.5\ndone\n')
  })

  it('that failed rejects with its last lines, exit code and executor, and is submitted anew the next time', async () => {
    const { executor, submitted } = scripted(id =>
      id.endsWith('-1')
        ? [
            { type: 'log', line: 'NPU out of memory' },
            { type: 'state', state: 'failed', exitCode: 3 },
          ]
        : [succeeded],
    )
    const error = await run(job({ n: 1 }), { store, on: executor }).catch(caught => caught)
    expect(error).toBeInstanceOf(StepError)
    expect(error.message).toMatch(
      /^job: Job job-[0-9a-f]{12}-1 on scripted ended as failed with exit code 3: NPU out of memory$/,
    )
    expect(error.cause).toBeInstanceOf(JobError)
    expect([error.cause.exitCode, error.cause.retryable, error.cause.logTail]).toEqual([
      3,
      false,
      ['NPU out of memory'],
    ])
    expect(await run(job({ n: 1 }), { store, on: executor })).toEqual({ n: 1 })
    expect(submitted.map(id => id.slice(-2))).toEqual(['-1', '-2'].slice(0, submitted.length))
  })

  it('that is lost is tried again, as often as its call says', async () => {
    const { executor, submitted } = scripted(() => [{ type: 'state', state: 'lost' }])
    const retried: number[] = []
    const running = run(job({ n: 1 }, { retries: 3, retryDelayMs: 1 }), { store, on: executor })
    running.on('step.retrying', event => retried.push(event.delayMs))
    const error = await running.catch(caught => caught)
    expect(submitted.length).toBe(4)
    expect(retried).toEqual([1, 2, 4])
    expect(error.attempts).toBe(4)
  })

  it('whose submission was answered is followed again after a crash, not started again', async () => {
    const { executor, submitted } = scripted(endless)
    const first = run(job({ n: 1 }), { store, on: executor })
    await new Promise<void>(resolve => first.on('job.state', () => resolve()))
    const left = first.catch(error => error.code)
    await first.detach()
    expect(await left).toBe('detached')
    const second = scripted(() => [succeeded])
    expect((await plan(job({ n: 1 }), { store, on: second.executor })).steps[0]?.reason).toMatch(
      /^job job-.*-1 is followed/,
    )
    expect(await run(job({ n: 1 }), { store, on: second.executor })).toEqual({ n: 1 })
    expect([submitted.length, second.submitted.length]).toEqual([1, 0])
  })

  it('whose submission was not answered is submitted again under the same id', async () => {
    const lost = scripted(() => [], { submit: () => Promise.reject(new Error('the line went dead')) })
    await expect(run(job({ n: 1 }), { store, on: lost.executor })).rejects.toThrow('the line went dead')
    const { executor, submitted } = scripted(() => [succeeded])
    await run(job({ n: 1 }), { store, on: executor })
    expect(submitted.map(id => id.slice(-2))).toEqual(['-1'])
  })

  it('is not moved to another executor while it may be alive', async () => {
    const { executor } = scripted(endless)
    const first = run(job({ n: 1 }), { store, on: executor })
    first.on('job.state', () => void first.detach())
    await first.catch(() => {})
    const other = { ...scripted(() => [succeeded]).executor, name: 'elsewhere' }
    await expect(run(job({ n: 1 }), { store, on: other })).rejects.toThrow(
      /its job job-.*-1 was submitted on scripted, and is now placed on elsewhere\. Place it on scripted/,
    )
  })

  it('that is asked for again while alive is cancelled first, and its old output is gone', async () => {
    const { executor } = scripted(endless)
    const first = run(job({ n: 1 }), { store, on: executor })
    first.on('job.state', () => void first.detach())
    await first.catch(() => {})
    await mkdir(join(await stepFolder(), 'work'), { recursive: true })
    await writeFile(join(await stepFolder(), 'work', 'old'), '')
    const { executor: second, cancelled, submitted } = scripted(() => [succeeded])
    await run(job({ n: 1 }), { store, on: second, rerun: ['job'] })
    expect([cancelled.length, submitted.length]).toEqual([1, 1])
    expect(await readdir(join(await stepFolder(), 'work'))).toEqual([])
  })

  it('whose watching ends without a final state counts as retryable', async () => {
    const { executor } = scripted(() => [{ type: 'state', state: 'running' }])
    const error = await run(job({ n: 1 }, { retries: 0 }), { store, on: executor }).catch(caught => caught)
    expect(error.cause.retryable).toBe(true)
  })

  it.each([
    ['a JobError', new JobError('no work done', { executor: 'x', job: 'y', retryable: false, logTail: [] }), 2],
    ['another error', new Error('a bug in collect'), 1],
  ])(
    'that succeeded and whose collecting fails with %s is tells by that whether its work was done',
    async (_, failure, submissions) => {
      const { executor, submitted } = scripted(() => [succeeded])
      let healthy = false
      const fragile = defineStep({ name: 'job', version: 2, input: z.object({}), output: z.object({}) }).job({
        launch: () => ({ argv: ['work'], nodes: 1, devicesPerNode: 0 }),
        collect: () => {
          if (!healthy) throw failure
          return {}
        },
      })
      await expect(run(fragile({}), { store, on: executor })).rejects.toThrow(failure.message)
      healthy = true
      await run(fragile({}), { store, on: executor })
      expect(submitted.length).toBe(submissions)
    },
  )

  it('that takes longer than its call allows is cancelled', async () => {
    const { executor, cancelled } = scripted(endless)
    await expect(run(job({ n: 1 }, { timeoutMs: 20, retries: 0 }), { store, on: executor })).rejects.toThrow(
      'job: it took longer than 20 ms.',
    )
    expect(cancelled.length).toBe(1)
  })
})

describe('placement', () => {
  const one = scripted(() => [succeeded])

  it('goes by call, then step, then default', async () => {
    const [call, step, rest] = ['call', 'step', 'rest'].map(name => ({ ...one.executor, name }))
    const target = { a: job({ n: 1 }, { name: 'a' }), b: job({ n: 2 }, { name: 'b' }) }
    const places = async (on: Parameters<typeof plan>[1]) =>
      (await plan(target, { store, ...on })).steps.map(({ on }) => on)
    expect(await places({ on: { a: call!, job: step!, default: rest! } })).toEqual(['call', 'step'])
    expect(await places({ on: { a: call!, default: rest! } })).toEqual(['call', 'rest'])
    expect(await places({})).toEqual(['local', 'local'])
  })

  it('refuses a name that is no job of the graph, listing those that are', async () => {
    await expect(plan(job({ n: 1 }), { store, on: { trian: one.executor } })).rejects.toThrow(
      'on.trian: there is no such call or step in this graph; its jobs are job.',
    )
  })

  it('refuses to place a function step', async () => {
    await expect(plan(write({ content: 'a' }), { store, on: { write: one.executor } })).rejects.toThrow(
      'on.write: write is a function step',
    )
  })

  it('refuses an executor with too few nodes or devices, before anything is submitted', async () => {
    const small = scripted(() => [succeeded], { maxNodes: 0 })
    await expect(plan(job({ n: 1 }), { store, on: small.executor })).rejects.toThrow(
      'job: it needs 1 nodes, scripted has 0.',
    )
  })

  it('shows the exact command of a job whose input is known', async () => {
    expect((await plan(job({ n: 7 }), { store, on: one.executor })).steps[0]?.launch).toBe('work 7')
  })
})
