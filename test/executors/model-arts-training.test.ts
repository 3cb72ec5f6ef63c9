import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, preprocess, run, train } from 'ascendflow'
import { makeToolchainDouble } from 'ascendflow/testing'
import { expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { executorFor, newFolder, startDouble } from './model-arts-on-double.ts'

it('a training on ModelArts whose device fails goes on from its newest checkpoint, in a job of its own', async () => {
  const dir = await newFolder()
  await makeModel(join(dir, 'model'))
  const rows = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), rows.join('\n'))
  const toolchain = await makeToolchainDouble(join(dir, 'ModelLink'), { generation: 'modellink-1.1' })
  await toolchain.inject({ kind: 'device-fault', at: 5 })
  const double = await startDouble({ imageEnv: toolchain.env() })

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
  const job = run(trained, { store: join(dir, 'store'), on: { train: executorFor(double) } })
  const told: string[] = []
  job.on('step.log', ({ line }) => told.push(line))
  job.on('step.retrying', ({ error }) => told.push(error.message))
  expect(await job).toMatchObject({ iteration: 6 })
  expect(double.jobs.length).toBe(2)
  expect(told.join('\n')).toMatch(/507035[\s\S]*goes on from iteration 4; .*[\s\S]*iteration +5\/ +6 /)
})
