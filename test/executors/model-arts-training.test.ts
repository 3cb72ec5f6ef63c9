import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, preprocess, run, train } from 'ascendflow'
import { makeToolchainDouble } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { executorFor, newFolder, startDouble } from './model-arts-on-double.ts'

/** A training of six iterations, saved every second, whose device fails once, before the fifth. */
async function trainWithFault(more: { readonly restarts?: number }) {
  const dir = await newFolder()
  await makeModel(join(dir, 'model'))
  const rows = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), rows.join('\n'))
  const toolchain = await makeToolchainDouble(join(dir, 'ModelLink'), { generation: 'modellink-1.1' })
  await toolchain.inject({ kind: 'device-fault', at: 5 })
  const double = await startDouble({ imageEnv: toolchain.env(), isHardwareFault: () => true })

  const base = hfModel(join(dir, 'model'))
  const data = preprocess({
    ...{ corpus: corpus(join(dir, 'rows.jsonl')), tokenizer: base },
    ...{ handler: 'GeneralInstructionHandler', appendEod: true },
  })
  const init = hfToMegatron({ model: base, parallel: { tp: 2 } })
  const numbers = { seqLength: 128, globalBatchSize: 4, trainIters: 6, saveInterval: 2, lr: 1e-3 }
  const trained = train(
    { data, init, tokenizer: base, devicesPerNode: 2, ...numbers, toolchain: toolchain.toolchain },
    { retryDelayMs: 1 },
  )
  const job = run(trained, { store: join(dir, 'store'), on: { train: executorFor(double, more) } })
  const told: string[] = []
  const iterations: number[] = []
  job.on('step.log', ({ line }) => told.push(line))
  job.on('step.retrying', ({ error }) => told.push(error.message))
  job.on('step.metrics', ({ values }) => iterations.push(values.iteration ?? 0))
  const { iteration } = await job
  return {
    iteration,
    iterations,
    told: told.join('\n'),
    jobs: double.jobs.length,
    runs: (await toolchain.runs()).length,
  }
}

describe('a training on ModelArts whose device fails goes on from its newest checkpoint', { timeout: 180_000 }, () => {
  it('in a job of its own', async () => {
    const { told, ...facts } = await trainWithFault({})
    expect(facts).toEqual({ iteration: 6, iterations: [1, 2, 3, 4, 5, 6], jobs: 2, runs: 2 })
    expect(told).toMatch(/507035[\s\S]*goes on from iteration 4; /)
  })

  it('in the same job, where ModelArts may restart it', async () => {
    const { told, ...facts } = await trainWithFault({ restarts: 1 })
    expect(facts).toEqual({ iteration: 6, iterations: [1, 2, 3, 4, 5, 6], jobs: 1, runs: 2 })
    expect(told).toMatch(/507035[\s\S]*at iteration 4/)
  })
})
