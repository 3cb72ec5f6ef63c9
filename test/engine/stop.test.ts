import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineStep, plan, run } from 'ascendflow'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { aborted, endless, job, newFolder, scripted, write } from './steps.ts'

let store: string
beforeEach(async () => {
  store = join(await newFolder(), 'store')
})

const patient = defineStep({ name: 'patient', version: 1, input: z.object({}), output: z.object({}) }).run(
  (_, { signal, log }) => {
    log('waiting')
    return aborted(signal)
  },
)

describe('cancelling', () => {
  it('stops function steps by their signal and rejects as cancelled with the reason', async () => {
    const running = run(patient({}), { store })
    running.on('step.log', () => void running.cancel('lunch'))
    const error = await running.catch(caught => caught)
    expect([error.code, error.message, error.cause]).toEqual(['cancelled', 'The run was cancelled: lunch', 'lunch'])
  })

  it('cancels jobs and resolves when they are gone', async () => {
    const { executor, cancelled } = scripted(endless)
    const running = run(job({ n: 1 }), { store, on: executor })
    running.catch(() => {})
    await new Promise<void>(resolve => running.on('job.state', () => resolve()))
    await running.cancel()
    expect(cancelled.length).toBe(1)
    expect((await plan(job({ n: 1 }), { store, on: executor })).steps[0]?.reason).toBe('never run in this store')
  })

  it('follows an AbortSignal, also one that was aborted before', async () => {
    const controller = new AbortController()
    const running = run(patient({}), { store, signal: controller.signal })
    running.on('step.log', () => controller.abort(new Error('shutting down')))
    await expect(running).rejects.toMatchObject({ code: 'cancelled', message: 'The run was cancelled: shutting down' })
    await expect(run(patient({}), { store, signal: controller.signal })).rejects.toMatchObject({ code: 'cancelled' })
  })

  it('ends the wait before a retry', async () => {
    const { executor, submitted } = scripted(() => [{ type: 'state', state: 'lost' }])
    const controller = new AbortController()
    const running = run(job({ n: 1 }, { retries: 9, retryDelayMs: 3_600_000 }), {
      store,
      on: executor,
      signal: controller.signal,
    })
    running.on('step.retrying', () => controller.abort())
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    expect(submitted.length).toBe(1)
  })

  it('happens at the end of an `await using` block', async () => {
    const { executor, cancelled } = scripted(endless)
    {
      await using running = run(job({ n: 1 }), { store, on: executor })
      running.catch(() => {})
      await new Promise<void>(resolve => running.on('job.state', () => resolve()))
    }
    expect(cancelled.length).toBe(1)
  })
})

describe('events', () => {
  it('of a listener that throws harm nothing and become a warning', async () => {
    const warned = new Promise<Error>(resolve => process.once('warning', resolve))
    const running = run(write({ content: 'a' }), { store })
    running.on('step.started', () => {
      throw new Error('listener trouble')
    })
    expect((await running).kind).toBe('text')
    expect((await warned).message).toBe('listener trouble')
  })

  it('make a failure no unhandled rejection before the promise is awaited', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    const running = run(
      defineStep({ name: 'bad', version: 1, input: z.object({}), output: z.object({}) }).run(() => {
        throw new Error('no')
      })({}),
      { store },
    )
    for await (const event of running.events()) void event
    await new Promise(resolve => setImmediate(resolve))
    process.off('unhandledRejection', unhandled)
    expect(unhandled).not.toHaveBeenCalled()
    await expect(running).rejects.toThrow('bad: no')
  })

  it('hold back the log of a job while their reader lags', async () => {
    let told = 0
    const { executor } = scripted(function* () {
      for (; told < 5_000; told++) yield { type: 'log', line: `${told}` }
      yield { type: 'state', state: 'succeeded' }
    })
    const running = run(job({ n: 1 }), { store, on: executor })
    let seen = 0
    let most = 0
    for await (const event of running.events()) {
      if (event.type !== 'step.log') continue
      most = Math.max(most, told - seen++)
      if (seen % 100 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    expect(seen).toBe(5_000)
    expect(most).toBeLessThan(1_100)
  })

  it('are kept as a file for people', async () => {
    const running = run(write({ content: 'a' }), { store })
    await running
    const text = await readFile(join(store, 'runs', running.id, 'events.jsonl'), 'utf8')
    expect(
      text
        .trim()
        .split('\n')
        .map(line => JSON.parse(line).type),
    ).toEqual([...['run.started', 'step.started', 'step.succeeded', 'run.finished']])
  })
})

describe('a store', () => {
  it('refuses a second process that works on the same call, naming the first', async () => {
    const running = run(patient({}), { store })
    running.on('step.log', async () => {
      const error = await run(patient({}), { store }).catch(caught => caught)
      expect([error.code, error.pid]).toEqual(['locked', process.pid])
      expect(error.message).toContain(`patient: process ${process.pid} on `)
      await running.cancel()
    })
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
  })

  it('is not held by a process that is dead', async () => {
    const { key } = (await plan(write({ content: 'a' }), { store })).steps[0]!
    const folder = join(store, 'steps', `write-${key.slice(0, 12)}`)
    await mkdir(folder, { recursive: true })
    const { hostname } = await import('node:os')
    await writeFile(join(folder, 'lock'), JSON.stringify({ host: hostname(), pid: process.pid, started: 'before:1' }))
    expect((await run(write({ content: 'a' }), { store })).kind).toBe('text')
    expect(await readdir(folder)).toEqual(['log.txt', 'record.json', 'work'])
  })

  it('lets one of many that find a dead lock at once have it', async () => {
    const { takeLock } = await import('../../src/engine/lock.ts')
    const { hostname } = await import('node:os')
    await mkdir(store)
    const lock = join(store, 'lock')
    await writeFile(lock, JSON.stringify({ host: hostname(), pid: 1, started: 'before:1' }))
    const taken = await Promise.allSettled(Array.from({ length: 16 }, () => takeLock(lock, 'x')))
    expect(taken.filter(({ status }) => status === 'fulfilled').length).toBe(1)
  })

  it('that is a file is refused by name', async () => {
    await writeFile(store, '')
    await expect(run(write({ content: 'a' }), { store })).rejects.toMatchObject({
      code: 'bad-store',
      message: expect.stringContaining(store),
    })
  })

  it.skipIf(process.getuid?.() === 0)('that is not writable is refused by name', async () => {
    await mkdir(store)
    await chmod(store, 0o500)
    await expect(run(write({ content: 'a' }), { store })).rejects.toMatchObject({ code: 'bad-store' })
  })
})
