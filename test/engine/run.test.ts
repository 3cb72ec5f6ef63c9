import { cp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineStep, plan, run, StepError } from 'ascendflow'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { join2, newFolder, write } from './steps.ts'

let store: string
let counter: string
beforeEach(async () => {
  const dir = await newFolder()
  store = join(dir, 'store')
  counter = join(dir, 'counter')
})
const runs = async () => (await readFile(counter, 'utf8').catch(() => '')).length
const states = async (target: Parameters<typeof plan>[0], options = {}) =>
  (await plan(target, { store, ...options })).steps.map(({ name, state }) => `${name} ${state}`)

describe('run', () => {
  it('gives the value of a ref, and of a record of refs', async () => {
    const a = write({ content: 'a' })
    const both = join2({ texts: [a, write({ content: 'b' }, { name: 'write-b' })] })
    expect(await run(both.text, { store })).toBe('a+b')
    expect(await run({ deep: { text: both.text }, both }, { store })).toEqual({
      deep: { text: 'a+b' },
      both: { text: 'a+b' },
    })
  })

  it('does not run again what is recorded', async () => {
    const target = join2({ texts: [write({ content: 'a', counter })] })
    await run(target, { store })
    const events: string[] = []
    const again = run(target, { store })
    for await (const event of again.events()) events.push(`${event.type} ${'step' in event ? event.step : ''}`.trim())
    expect(await again).toEqual({ text: 'a' })
    expect(await runs()).toBe(1)
    expect(events).toEqual(['run.started', 'step.skipped write', 'step.skipped join', 'run.finished'])
  })

  it('runs two calls with one key once, whatever their names', async () => {
    const texts = [write({ content: 'a', counter }, { name: 'one' }), write({ content: 'a', counter }, { name: 'two' })]
    expect((await run(join2({ texts }), { store })).text).toBe('a+a')
    expect(await runs()).toBe(1)
  })

  it('runs a call again, and what depends on it, when told so by the name of the call or the step', async () => {
    const target = join2({ texts: [write({ content: 'a', counter }, { name: 'first' })] })
    await run(target, { store })
    expect(await states(target, { rerun: ['first'] })).toEqual(['first ready', 'join waiting'])
    await run(target, { store, rerun: ['first'] })
    await run(target, { store, rerun: ['write'] })
    expect(await runs()).toBe(3)
    await expect(run(target, { store, rerun: ['firts'] })).rejects.toThrow(
      "rerun: there is no call or step 'firts' here; there are first, join.",
    )
  })

  it.each([
    ['gone', (path: string) => rm(path), /text\.txt is gone$/],
    ['of another size', (path: string) => truncate(path, 0), /text\.txt has 0 bytes, recorded were 1$/],
  ])('does not believe a record whose file is %s', async (_, harm, reason) => {
    const target = write({ content: 'a', counter })
    const { path } = await run(target, { store })
    await harm(path)
    expect((await plan(target, { store })).steps[0]?.reason).toMatch(reason)
    expect(await readFile((await run(target, { store })).path, 'utf8')).toBe('a')
    expect(await runs()).toBe(2)
  })

  it('compares contents with what was recorded when asked to', async () => {
    const target = write({ content: 'a', counter })
    const { path } = await run(target, { store })
    await writeFile(path, 'b')
    expect(await states(target)).toEqual(['write recorded'])
    expect(await states(target, { verify: 'content' })).toEqual(['write ready'])
  })

  it('finds its records again when the store was moved', async () => {
    const target = write({ content: 'a', counter })
    await run(target, { store })
    await cp(store, `${store}-moved`, { recursive: true })
    await rm(store, { recursive: true })
    const { path } = await run(target, { store: `${store}-moved` })
    expect(path.startsWith(`${store}-moved`)).toBe(true)
    expect(await runs()).toBe(1)
  })

  it('takes a damaged record for none', async () => {
    const target = write({ content: 'a', counter })
    await run(target, { store })
    const [folder] = await readdir(join(store, 'steps'))
    await truncate(join(store, 'steps', folder!, 'record.json'), 40)
    await run(target, { store })
    expect(await runs()).toBe(2)
  })

  it('keeps the folder of a failed call for its next attempt', async () => {
    const resume = defineStep({
      name: 'resume',
      version: 1,
      input: z.object({}),
      output: z.object({ seen: z.string() }),
    }).run(async (_, { workDir }) => {
      const note = join(workDir, 'note')
      const seen = await readFile(note, 'utf8').catch(() => undefined)
      if (seen) return { seen }
      await writeFile(note, 'halfway')
      throw new Error('the lamp went out')
    })
    await expect(run(resume({}), { store })).rejects.toThrow('resume: the lamp went out')
    expect(await run(resume({}), { store })).toEqual({ seen: 'halfway' })
  })

  it('finishes and records what is at work when another call fails, and begins nothing new', async () => {
    let open = () => {}
    const opened = new Promise<void>(resolve => {
      open = resolve
    })
    const slow = defineStep({ name: 'slow', version: 1, input: z.object({}), output: z.object({ n: z.number() }) }).run(
      async () => {
        await opened
        return { n: 1 }
      },
    )
    const bad = defineStep({ name: 'bad', version: 1, input: z.object({}), output: z.object({}) }).run(() => {
      throw new Error('no')
    })
    const after = defineStep({
      name: 'after',
      version: 1,
      input: z.object({ n: z.number() }),
      output: z.object({}),
    }).run(() => ({}))
    const target = { after: after({ n: slow({}).n }), bad: bad({}) }
    const job = run(target, { store, concurrency: 2 })
    job.on('step.failed', open)
    const error = await job.catch(caught => caught)
    expect(error).toBeInstanceOf(StepError)
    expect([error.code, error.step, error.attempts]).toEqual(['step-failed', 'bad', 1])
    expect(await states(target)).toEqual(['slow recorded', 'after ready', 'bad ready'])
  })

  it('refuses an output that does not fit its schema, naming the field', async () => {
    const lie = defineStep({ name: 'lie', version: 1, input: z.object({}), output: z.object({ n: z.number() }) }).run(
      () => ({ n: 'one' }) as unknown as { n: number },
    )
    await expect(run(lie({}), { store })).rejects.toThrow(/^lie: its output does not fit its schema: n: /)
  })

  it('orders calls that share no data by `after`', async () => {
    const order: string[] = []
    const note = defineStep({
      name: 'note',
      version: 1,
      input: z.object({ what: z.string() }),
      output: z.object({}),
    }).run(({ what }) => {
      order.push(what)
      return {}
    })
    const first = note({ what: 'first' }, { name: 'a' })
    await run({ second: note({ what: 'second' }, { name: 'b', after: [first] }), first }, { store, concurrency: 4 })
    expect(order).toEqual(['first', 'second'])
  })

  it('never has more calls at work than allowed', async () => {
    let atWork = 0
    let most = 0
    let full = () => {}
    const allAtWork = new Promise<void>(resolve => {
      full = resolve
    })
    const busy = defineStep({
      name: 'busy',
      version: 1,
      input: z.object({ n: z.number() }),
      output: z.object({}),
    }).run(async () => {
      most = Math.max(most, ++atWork)
      if (atWork === 3) full()
      await allAtWork
      atWork--
      return {}
    })
    const calls = Array.from({ length: 9 }, (_, n) => [`c${n}`, busy({ n }, { name: `busy-${n}` })] as const)
    await run(Object.fromEntries(calls), { store, concurrency: 3 })
    expect(most).toBe(3)
  })
})

describe('plan', () => {
  it('writes nothing', async () => {
    await plan(write({ content: 'a' }), { store })
    await expect(readdir(store)).rejects.toThrow('ENOENT')
  })

  it('prints state, key, place and reason in columns, also for Chinese text', async () => {
    const target = join2({ texts: [write({ content: '中文' }, { name: 'w' })] })
    await run(write({ content: '英文' }), { store })
    const lines = String(await plan(target, { store })).split('\n')
    expect(lines[0]).toMatch(/^w {5}ready {4}[0-9a-f]{12} {2}here {2}content 英文 → 中文$/)
    expect(lines[1]).toMatch(/^join {2}waiting {2}[0-9a-f]{12} {2}here {2}never run in this store$/)
  })

  it('refuses two different calls of one name, naming both places', async () => {
    const target = join2({ texts: [write({ content: 'a' }), write({ content: 'b' })] })
    await expect(plan(target, { store })).rejects.toThrow(
      /^Two different calls are named 'write' \(test\/engine\/run\.test\.ts:\d+ and test\/engine\/run\.test\.ts:\d+\)\. Name them/,
    )
  })

  it('refuses to plan what is no ref', async () => {
    await expect(plan({ a: 1 } as never, { store })).rejects.toThrow('There is nothing to run')
  })

  it('checks a later call by what an earlier one foretells, before anything runs', async () => {
    const make = defineStep({
      name: 'make',
      version: 1,
      input: z.object({ size: z.number() }),
      output: z.object({ size: z.number(), time: z.number() }),
      foretell: ({ size }) => ({ size }),
    }).run(({ size }) => ({ size, time: 1 }))
    const use = defineStep({
      name: 'use',
      version: 1,
      input: z.object({ made: z.object({ size: z.number(), time: z.number() }) }),
      output: z.object({}),
      check: ({ made }) => {
        if (made?.size !== undefined && made.size > 3)
          throw new StepError('too big', { step: '', key: '', attempts: 0, logPath: '' })
        return [`size ${made?.size}, time ${made?.time}`]
      },
    }).run(() => ({}))
    expect((await plan(use({ made: make({ size: 2 }) }), { store })).steps[1]?.facts).toEqual([
      'size 2, time undefined',
    ])
    await expect(run(use({ made: make({ size: 4 }) }), { store })).rejects.toThrow(/^use: too big\n {4}at test\/engine/)
    await expect(readdir(store)).rejects.toThrow('ENOENT')
  })
})
