import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { createEngine, type Engine } from '../../src/trainer/engine.ts'
import { engineOptions, fillParameters, type ReferenceRun, trainRun, uniform } from './reference-run.ts'

const runs: ReferenceRun[] = JSON.parse(readFileSync(new URL('./fixtures/training-runs.json', import.meta.url), 'utf8'))
const largestDifference = (a: readonly number[], b: readonly number[]) =>
  a.reduce((largest, x, i) => Math.max(largest, Math.abs(x - b[i]!)), a.length === b.length ? 0 : Infinity)

let engine: Engine | undefined
afterEach(async () => {
  await engine?.close()
  engine = undefined
})

describe('training follows PyTorch in float64', () => {
  test.each(runs.map(run => [run.title, run] as const))('%s', async (_, run) => {
    engine = await createEngine({ ...engineOptions(run), threads: 2 })
    fillParameters(engine.parameters)
    const { losses, gradNorms } = await trainRun(engine, run)
    expect(largestDifference(losses, run.losses)).toBeLessThan(1e-5)
    expect(largestDifference(gradNorms, run.gradNorms)).toBeLessThan(1e-4)
    const trained = engine.parameters.filter(parameter => parameter.trainable)
    expect(trained.map(({ name }) => name).sort()).toEqual(Object.keys(run.weightSums).sort())
    for (const { name, weight } of trained) {
      const factors = uniform(9, weight.length)
      const sum = weight.reduce((total, value, i) => total + value * factors[i]!, 0)
      expect(Math.abs(sum - run.weightSums[name]!) / Math.sqrt(weight.length), name).toBeLessThan(1e-5)
    }
  })
})
