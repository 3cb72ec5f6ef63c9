import { join } from 'node:path'
import { type CallOptions, defineStep, JobError, plan, run } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { newFolder, scripted, succeeded } from './steps.ts'

const input = z.object({ n: z.number(), tool: z.string().optional() })
const output = z.object({ by: z.string(), n: z.number() })

/** A function, or with `tool` a job of it. */
const count = defineStep({ name: 'count', version: 1, input, output }).runOrJobWith(
  'tool',
  ({ n }) => ({ by: 'function', n }),
  {
    launch: ({ tool }) => ({ argv: [tool], nodes: 1, devicesPerNode: 0 }),
    collect: ({ tool, n }) => ({ by: tool, n }),
  },
)

describe('a step that is a function or a job', () => {
  it('is what the field of its call says', async () => {
    const { executor, submitted } = scripted(() => [succeeded])
    const target = { here: count({ n: 1 }), there: count({ n: 1, tool: 'abacus' }, { name: 'there' }) }
    const options = { store: await newFolder(), on: executor }
    expect((await plan(target, options)).steps.map(({ name, on, launch }) => [name, on, launch])).toEqual([
      ['count', undefined, undefined],
      ['there', 'scripted', 'abacus'],
    ])
    expect(await run(target, options)).toEqual({ here: { by: 'function', n: 1 }, there: { by: 'abacus', n: 1 } })
    expect(submitted).toHaveLength(1)
  })

  it('can be placed by name only where it is a job', async () => {
    const { executor } = scripted(() => [succeeded])
    const on = { count: executor }
    const store = await newFolder()
    await expect(plan(count({ n: 1 }), { store, on })).rejects.toThrow(/count is a function step/)
    expect((await plan(count({ n: 1, tool: 'a' }), { store, on })).steps[0]?.on).toBe('scripted')
  })

  it('takes no ref in that field', () => {
    const name = defineStep({ name: 'name', version: 1, input: z.object({}), output: z.string() }).run(() => 'abacus')
    expect(() => count({ n: 1, tool: name({}) })).toThrow(
      /count.tool: it decides how the call is carried out and cannot come from another call/,
    )
  })
})

describe('before a job is submitted', () => {
  /** A job step that tells what it was called with. */
  const told: string[] = []
  const step = defineStep({ name: 'train', version: 1, input: z.object({ goal: z.number() }), output: z.number() }).job(
    {
      launch: async () => ({ argv: ['work'], nodes: 1, devicesPerNode: 0 }),
      prepare: ({ goal }, { lastMetrics, attempt }) =>
        void told.push(`${attempt}: ${goal} ${JSON.stringify(lastMetrics)}`),
      metricsFrom: line => (line.startsWith('at ') ? { at: Number(line.slice(3)) } : undefined),
      collect: ({ goal }, { lastMetrics: { at = 0 }, job, logTail }) => {
        if (at === goal) return at
        throw new JobError('not there', { executor: job.executor, job: job.id, retryable: true, logTail })
      },
    },
  )
  const call = (options: CallOptions = {}) => step({ goal: 7 }, { retryDelayMs: 1, ...options })

  it('its step puts things in order, knowing how far the attempt before came', async () => {
    told.length = 0
    const { executor, submitted } = scripted(id => [
      { type: 'log', line: 'at 1' },
      { type: 'log', line: id.endsWith('1') ? 'at 3' : 'at 7' },
      succeeded,
    ])
    expect(await run(call(), { store: await newFolder(), on: executor })).toBe(7)
    expect([told, submitted.length]).toEqual([['1: 7 {}', '2: 7 {"at":3}'], 2])
  })

  it('nothing is touched of a job that is still noted, nor by a plan', async () => {
    told.length = 0
    const store = await newFolder()
    const lost = scripted(() => {
      throw new Error('the connection is gone')
    })
    await expect(run(call({ retries: 0 }), { store, on: lost.executor })).rejects.toThrow(/connection is gone/)
    const { executor } = scripted(() => [{ type: 'log', line: 'at 7' }, succeeded])
    await plan(call(), { store, on: executor })
    expect(await run(call(), { store, on: executor })).toBe(7)
    expect(told).toEqual(['1: 7 {}'])
  })
})

describe('a plan', () => {
  it('says what is likely not meant about where a call is to run', async () => {
    const npus = scripted(() => [succeeded], { devicesPerNode: 8 }).executor
    const step = defineStep({
      name: 'cpu',
      version: 1,
      input: z.object({}),
      output: z.string(),
      warn: (_, executor) => (executor?.devicesPerNode ? [`${executor.devicesPerNode} NPUs will idle`] : []),
    }).job({ launch: () => ({ argv: ['work'], nodes: 1, devicesPerNode: 0 }), collect: () => '' })
    const store = join(await newFolder(), 'store')
    const planned = await plan(step({}), { store, on: npus })
    expect(planned.steps[0]?.warnings).toEqual(['8 NPUs will idle'])
    expect(String(planned)).toContain('\n! cpu: 8 NPUs will idle\n')
    expect((await plan(step({}), { store })).steps[0]?.warnings).toEqual([])
  })
})
