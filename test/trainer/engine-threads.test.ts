import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { planArena } from '../../src/trainer/arena.ts'
import { createEngine } from '../../src/trainer/engine.ts'
import type { EngineOptions } from '../../src/trainer/engine-options.ts'
import { compileKernels } from '../../src/trainer/kernels/load.ts'
import { startPool } from '../../src/trainer/pool.ts'
import { batchOf, engineOptions, fillParameters, type ReferenceRun, trainRun } from './reference-run.ts'

const runs: ReferenceRun[] = JSON.parse(readFileSync(new URL('./fixtures/training-runs.json', import.meta.url), 'utf8'))
const runOf = (title: string) => runs.find(run => run.title === title)!

/** Everything that a few steps leave: losses, norms, weights, moments. */
async function outcome(run: ReferenceRun, options: Partial<EngineOptions>): Promise<Float64Array> {
  const engine = await createEngine({ ...engineOptions(run), ...options })
  fillParameters(engine.parameters)
  const { losses, gradNorms } = await trainRun(engine, run, 3)
  const { tokens, labels } = batchOf(run, 1)
  const { loss } = await engine.evaluate(tokens, labels)
  const states = engine.parameters.flatMap(({ weight, firstMoment, secondMoment }) => [
    ...weight,
    ...(firstMoment ?? []),
    ...(secondMoment ?? []),
  ])
  await engine.close()
  return Float64Array.from([...losses, ...gradNorms, loss, ...states])
}

describe('the same bits come out', () => {
  const titles = [
    'pretraining',
    'tied embeddings and qkv bias',
    'sizes that are not multiples of 4',
    'several attention blocks, no clipping',
    'LoRA on all linears',
    'LoRA on qkv and fc2 of odd sizes',
  ]
  test.each(titles)('of 1, 2, 3 and 7 threads: %s', async title => {
    const one = await outcome(runOf(title), { threads: 1 })
    for (const threads of [2, 3, 7]) expect(await outcome(runOf(title), { threads })).toEqual(one)
  })

  test('of fused multiply and add, for any number of threads', async () => {
    const run = runOf('sizes that are not multiples of 4')
    const one = await outcome(run, { threads: 1, numerics: 'fast' })
    expect(await outcome(run, { threads: 3, numerics: 'fast' })).toEqual(one)
  })

  test('of a run that was stopped, saved, and continued with another number of threads', async () => {
    const run = runOf('grouped queries')
    const options = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clipGrad: 1 }
    const first = await createEngine({ ...engineOptions(run), threads: 3 })
    fillParameters(first.parameters)
    const batches = [0, 1, 2, 3].map(index => batchOf(run, index))
    for (const [i, { tokens, labels }] of batches.slice(0, 2).entries()) {
      await first.accumulate(tokens, labels)
      await first.update({ ...options, step: i + 1 })
    }
    const second = await createEngine({ ...engineOptions(run), threads: 2 })
    for (const [i, parameter] of first.parameters.entries()) {
      second.parameters[i]!.weight.set(parameter.weight)
      second.parameters[i]!.firstMoment!.set(parameter.firstMoment!)
      second.parameters[i]!.secondMoment!.set(parameter.secondMoment!)
    }
    for (const engine of [first, second]) {
      for (const [i, { tokens, labels }] of batches.slice(2).entries()) {
        await engine.accumulate(tokens, labels)
        await engine.update({ ...options, step: i + 3 })
      }
    }
    for (const [i, { weight }] of first.parameters.entries()) expect(second.parameters[i]!.weight).toEqual(weight)
    await Promise.all([first.close(), second.close()])
  })
})

describe('when a thread is lost', () => {
  const options = engineOptions(runOf('pretraining'))
  const start = (threads: number) => {
    const arena = planArena(options, threads)
    const pages = Math.ceil(arena.bytes / 65_536)
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    return { pool: startPool(arena, { module: compileKernels('reproducible'), memory }), arena, memory }
  }
  const code = 'job-failed'

  test('because it throws while the others wait for it, the call and all later ones are rejected with its message', async () => {
    const { pool, arena, memory } = start(3)
    await pool.run('evaluate')
    // Only rank 0 looks up the first token, and finds its row beyond the memory.
    const beyond = Math.ceil(memory.buffer.byteLength / (arena.sizes.hidden * 4))
    new Int32Array(memory.buffer, arena.tokens)[0] = beyond
    const failure = { code, job: 'rank 0', message: expect.stringContaining('out of bounds') }
    await expect(pool.run('evaluate')).rejects.toMatchObject(failure)
    await expect(pool.run('evaluate')).rejects.toMatchObject(failure)
    await pool.close()
  })

  test('because it dies while the others wait for it, the call is rejected', async () => {
    const { pool } = start(3)
    await pool.run('evaluate')
    const ended = pool.workers[1]!.terminate()
    await expect(pool.run('evaluate')).rejects.toMatchObject({ code, job: 'rank 1', retryable: true })
    await ended
    await expect(pool.run('evaluate')).rejects.toMatchObject({ code })
    await pool.close()
  })

  test('because the engine is closed, a running call is rejected', async () => {
    const engine = await createEngine({ ...options, threads: 2 })
    const { tokens, labels } = batchOf(runOf('pretraining'), 0)
    const running = expect(engine.accumulate(tokens, labels)).rejects.toThrow('closed')
    await engine.close()
    await running
    await expect(engine.evaluate(tokens, labels)).rejects.toThrow('closed')
  })

  test('calls that overlap are refused', async () => {
    const engine = await createEngine({ ...options, threads: 2 })
    const { tokens, labels } = batchOf(runOf('pretraining'), 0)
    const { loss } = await engine.accumulate(tokens, labels)
    const running = engine.accumulate(tokens, labels)
    await expect(engine.evaluate(labels, tokens)).rejects.toThrow('busy')
    expect((await running).loss).toBe(loss)
    await engine.close()
  })
})
