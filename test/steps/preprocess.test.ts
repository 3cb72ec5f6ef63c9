import { readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { corpus, hfModel, hfToMegatron, plan, preprocess, preprocessWith, run, train } from 'ascendflow'
import { openIndexedDataset } from 'ascendflow/formats'
import { beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
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
  expect(data.report?.samplesPerEpoch).toBe(data.samples)
})

it('a plan tells what a recorded dataset holds instead of what its tokenizer is like', async () => {
  const data = preprocess({ corpus: rows, tokenizer, ...sft, seqLength: 400 })
  expect((await plan(data, { store: store() })).steps[0]?.facts[0]).toMatch(/^GeneralInstructionHandler, vocabulary /)
  const { samples, tokens } = await run(data, { store: store() })
  const [read] = (await plan(data, { store: store() })).steps[0]?.facts ?? []
  expect(read).toBe(
    `24 rows read, ${samples} kept; ${samples} sequences of ${tokens.toLocaleString('en')} tokens, ${samples} samples an epoch`,
  )
})

it('validation data that was not set aside is not taken for none', async () => {
  const data = preprocess({ corpus: rows, tokenizer, ...sft })
  const hyper = { seqLength: 128, globalBatchSize: 6, lr: 1e-3, trainIters: 1 }
  const model = train({ data, validation: data.validation, init: hfToMegatron({ model: tokenizer }), ...hyper })
  await expect(run(model, { store: store() })).rejects.toThrow(/the output of preprocess has no field 'validation'/)
})

it("a step of the user's own is preprocess with segments of a typed row, and names a row that is of another form", async () => {
  const faq = preprocessWith({
    ...{ name: 'faq', version: 1, row: z.object({ instruction: z.string(), output: z.string() }) },
    segments: ({ instruction, output }) => [
      { text: `Q: ${instruction}\nA:`, train: false },
      { text: output, train: true },
    ],
  })
  const data = await run(faq({ corpus: rows, tokenizer, appendEod: true }), { store: store() })
  expect([data.samples, data.instruction, data.report?.kept]).toEqual([24, true, 24])
  const [ids, labels] = ['input_ids', 'labels'].map(key => {
    const set = openIndexedDataset(`${data.path}_packed_${key}_document`)
    const first = [...set.sequence(0)]
    set.close()
    return first
  })
  const trained = labels?.findIndex(label => label !== -100) ?? -1
  expect(trained).toBeGreaterThan(0)
  expect(labels?.slice(trained)).toEqual(ids?.slice(trained))

  await writeFile(join(dir, 'odd.jsonl'), '{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": 3}\n')
  await expect(run(faq({ corpus: corpus(join(dir, 'odd.jsonl')), tokenizer }), { store: store() })).rejects.toThrow(
    /expected string, received number\) in column "output" of every row.*line 2/s,
  )
})
