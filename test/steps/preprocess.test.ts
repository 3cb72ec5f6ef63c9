import { readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { corpus, hfModel, hfToMegatron, plan, preprocess, run, train } from 'ascendflow'
import { openIndexedDataset } from 'ascendflow/formats'
import { beforeAll, expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string
let tokenizer: ReturnType<typeof hfModel>
let rows: ReturnType<typeof corpus>
const store = () => join(dir, 'store')

beforeAll(async () => {
  dir = await newFolder()
  await makeModel(join(dir, 'model'))
  tokenizer = hfModel(join(dir, 'model'))
  const lines = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), lines.join('\n'))
  rows = corpus(join(dir, 'rows.jsonl'))
})

const sft = { handler: 'GeneralInstructionHandler', appendEod: true } as const

it('sets validation data aside, which train takes as a ref, and writes a report beside the dataset', async () => {
  const data = preprocess({ corpus: rows, tokenizer, ...sft, validation: 0.25 })
  const init = hfToMegatron({ model: tokenizer })
  const hyper = { seqLength: 128, microBatchSize: 3, globalBatchSize: 6, lr: 1e-3, trainIters: 1 }
  const model = train({ data, validation: data.validation, init, ...hyper })
  const out = await run({ data, model }, { store: store() })
  expect([out.data.samples, out.data.validation?.samples]).toEqual([18, 6])
  expect(out.model.validationLoss?.after).toBeGreaterThan(0)
  expect(out.data.report).toMatchObject({ rows: 24, kept: 24, bad: 0, empty: 0 })
  const report = JSON.parse(await readFile(join(dirname(out.data.path), 'report.json'), 'utf8'))
  expect(report).toMatchObject({ rows: 24, validation: { sequences: 6 }, inputs: [{ file: rows.path }] })
  expect((await readdir(dirname(out.data.path))).filter(name => name.startsWith('.'))).toEqual([])
})

it('gives one key for every number of workers, and packs and blends', async () => {
  const options = { tokenizer, ...sft, seqLength: 512, pack: true } as const
  const list = [
    { corpus: rows, weight: 2 },
    { corpus: rows, weight: 1 },
  ]
  const keys = await Promise.all(
    [1, 2].map(async workers => (await plan(preprocess({ corpus: list, ...options, workers }))).steps[0]?.key),
  )
  expect(keys[0]).toBe(keys[1])
  const data = await run(preprocess({ corpus: list, ...options }), { store: store() })
  const packed = openIndexedDataset(`${data.path}_packed_input_ids_document`)
  expect([packed.lengths.length, new Set(packed.lengths)]).toEqual([data.samples, new Set([512])])
  packed.close()
  expect(data.report.samplesPerEpoch).toBe(data.samples)
})
