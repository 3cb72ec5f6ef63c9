import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, megatronToHf, plan, preprocess, type Ref, run, train } from 'ascendflow'
import { openHfModel, openIndexedDataset, openMegatronCheckpoint } from 'ascendflow/formats'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string
let model: ReturnType<typeof hfModel>
let rows: ReturnType<typeof corpus>
const store = () => join(dir, 'store')

beforeAll(async () => {
  dir = await newFolder()
  await makeModel(join(dir, 'model'))
  model = hfModel(join(dir, 'model'))
  const lines = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), lines.join('\n'))
  rows = corpus(join(dir, 'rows.jsonl'))
})

const sft = { handler: 'GeneralInstructionHandler', appendEod: true } as const
const hyper = { seqLength: 128, microBatchSize: 4, globalBatchSize: 8, lr: 1e-3 } as const

/** Closes it when the test is over. */
function closing<T extends { close(): unknown }>(opened: T): T {
  onTestFinished(() => void opened.close())
  return opened
}

/** A matcher would go through two megabytes number by number. */
async function sameWeights(...folders: readonly [string, string]): Promise<boolean> {
  const [a, b] = await Promise.all(folders.map(folder => readFile(join(folder, 'model.safetensors'))))
  return a!.equals(b!)
}

/** A copy of the model with other text in one of its files. */
async function changed(name: string, file: string, change: (text: string) => string) {
  await cp(join(dir, 'model'), join(dir, name), { recursive: true })
  await writeFile(join(dir, name, file), change(await readFile(join(dir, 'model', file), 'utf8')))
  return hfModel(join(dir, name))
}

async function refusal(target: Ref<unknown>) {
  const error = await plan(target, { store: join(dir, 'nowhere') }).catch(caught => caught)
  return `${error.code} | ${error.message.split('\n')[0]}`
}

describe('the four steps', () => {
  it('take text and a model to a trained model that can be opened, through tp 2 × pp 2 shards', async () => {
    const data = preprocess({ corpus: rows, tokenizer: model, ...sft })
    const init = hfToMegatron({ model, parallel: { tp: 2, pp: 2 }, layout: 'mcore' })
    const trained = train({ data, init, ...hyper, trainIters: 3 })
    const out = await run({ data, trained, hf: megatronToHf({ checkpoint: trained, like: model }) }, { store: store() })
    expect([out.data.samples, out.trained.iteration, out.trained.tp, out.trained.pp]).toEqual([24, 3, 2, 2])
    expect(closing(openIndexedDataset(`${out.data.path}_packed_labels_document`)).lengths.length).toBe(24)
    const shards = closing(await openMegatronCheckpoint(out.trained.path))
    expect([shards.layout, shards.iteration]).toEqual(['mcore', 3])
    const before = closing(await openHfModel(model.path))
    const after = closing(await openHfModel(out.hf.path))
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort())
    const name = 'model.layers.0.mlp.up_proj.weight'
    expect(await after.readRows(name, 0, 4)).not.toEqual(await before.readRows(name, 0, 4))
    expect(JSON.parse(await readFile(join(out.hf.path, 'tokenizer_config.json'), 'utf8')).eos_token).toBe('</s>')
  })

  it('take a model through shards and back without changing a bit', async () => {
    const checkpoint = hfToMegatron({ model, parallel: { tp: 2, pp: 4 } })
    const { path } = await run(megatronToHf({ checkpoint, like: model }), { store: store() })
    expect(await sameWeights(path, model.path)).toBe(true)
  })

  it('train with more tensor-parallel ranks than query groups, whose copies stay equal', async () => {
    const data = preprocess({ corpus: rows, tokenizer: model, ...sft })
    const trained = (tp: number) => {
      const init = hfToMegatron({ model, parallel: { tp, pp: 1 } }, { name: `init-${tp}` })
      const checkpoint = train({ data, init, ...hyper, trainIters: 2 }, { name: `train-${tp}` })
      return megatronToHf({ checkpoint, like: model }, { name: `hf-${tp}` })
    }
    const { copied, single } = await run({ copied: trained(4), single: trained(1) }, { store: store() })
    expect(await sameWeights(copied.path, single.path)).toBe(true)
  })

  it('train adapters only and merge them on the way back', async () => {
    const data = preprocess({ corpus: rows, tokenizer: model, ...sft })
    const init = hfToMegatron({ model, parallel: { tp: 2, pp: 1 } })
    const tuned = train({
      data,
      init,
      ...hyper,
      lr: 1e-2,
      trainIters: 2,
      lora: { r: 4, alpha: 8, targets: ['linear_qkv'] },
    })
    const out = await run({ tuned, hf: megatronToHf({ checkpoint: tuned, like: model }) }, { store: store() })
    expect(out.tuned.loraBase?.iteration).toBe(1)
    const before = closing(await openHfModel(model.path))
    const after = closing(await openHfModel(out.hf.path))
    const same = async (name: string) =>
      Buffer.from(await before.readRows(name, 0, 64)).equals(await after.readRows(name, 0, 64))
    expect(await same('model.layers.0.self_attn.q_proj.weight')).toBe(false)
    expect(await same('model.layers.0.mlp.up_proj.weight')).toBe(true)
  })

  it('count iterations from what preprocessing kept', async () => {
    const data = preprocess({ corpus: rows, tokenizer: model, ...sft })
    const init = hfToMegatron({ model })
    const target = train({ data, init, ...hyper, epochs: 5 })
    await run({ data, init }, { store: store() })
    const { facts, launch } = (await plan(target, { store: store() })).steps.at(-1)!
    expect(facts).toContain('15 iterations')
    expect(launch).toContain('--train-iters 15 ')
  })

  it("show the number of the vendor's guide where it is another", async () => {
    const at = store()
    const data = preprocess({ corpus: rows, tokenizer: model, ...sft })
    const init = hfToMegatron({ model })
    await run({ data, init }, { store: at })
    const factsOf = async (options: object) =>
      (await plan(train({ data, init, ...hyper, ...options }), { store: at })).steps.at(-1)!.facts
    expect(await factsOf({ globalBatchSize: 16, epochs: 5 })).toEqual([
      'tp 1 · pp 1 · dp 1 · 4 micro batches',
      "7 iterations (by the guide's 24 / 16 * 5: 5)",
      'warm-up 0.07, save every 10',
    ])
    expect(await factsOf({ globalBatchSize: 16, trainIters: 500, lrWarmupIters: 20, saveInterval: 100 })).toEqual([
      'tp 1 · pp 1 · dp 1 · 4 micro batches',
      '500 iterations',
      'warm-up 20, save every 100',
    ])
    const asked = { trainIters: 500, lrWarmupIters: 20, lrDecayIters: 400, maxPositionEmbeddings: 600 }
    const { launch } = (await plan(train({ data, init, ...hyper, ...asked }), { store: at })).steps.at(-1)!
    for (const words of ['--lr-warmup-iters 20 --lr-decay-iters 400 ', '--max-position-embeddings 600 '])
      expect(launch).toContain(words)
    expect(launch).not.toContain('--lr-warmup-fraction')
  })
})

describe('misuse is refused before anything runs:', () => {
  const data = () => preprocess({ corpus: rows, tokenizer: model, ...sft })

  it('a model that cannot be cut so', async () => {
    expect(await refusal(hfToMegatron({ model, parallel: { tp: 3 } }))).toBe(
      "invalid-layout | hfToMegatron: tp 3 does not divide the model's 4 attention heads. tp 2 or 4 would do.",
    )
  })

  it('a training layout that the model cannot have, before the model is converted', async () => {
    const init = hfToMegatron({ model })
    expect(await refusal(train({ data: data(), init, ...hyper, parallel: { tp: 8 } }))).toBe(
      "invalid-layout | train-reshard: tp 8 does not divide the model's 4 attention heads. tp 4 would do.",
    )
    expect(await refusal(train({ data: data(), init, ...hyper, seqLength: 1024 }))).toBe(
      "invalid-layout | train: seqLength 1024 is more than the model's 512 positions. seqLength 512 would do.",
    )
  })

  it('a global batch that the micro batches do not make up', async () => {
    const init = hfToMegatron({ model })
    expect(await refusal(train({ data: data(), init, ...hyper, microBatchSize: 3 }))).toBe(
      'invalid-layout | train: globalBatchSize 8 is not divisible by microBatchSize 3 × dp 1 = 3. globalBatchSize 6 or 9, or microBatchSize 2 or 4 would do.',
    )
  })

  it('devices that the layout does not divide', async () => {
    const init = hfToMegatron({ model })
    const parallel = { tp: 2, pp: 4 }
    expect(await refusal(train({ data: data(), init, ...hyper, parallel, nodes: 3, devicesPerNode: 4 }))).toMatch(
      /^invalid-layout \| train: tp 2 × pp 4 × cp 1 = 8 does not divide 12 devices/,
    )
  })

  it('files that are not there', async () => {
    expect(await refusal(hfToMegatron({ model: hfModel('no/such/model') }))).toMatch(
      /^invalid-input \| hfToMegatron: no file is at \/.*no\/such\/model, which is to be a hf-model\.$/,
    )
    expect(await refusal(preprocess({ corpus: corpus('no/*.jsonl'), tokenizer: model }))).toMatch(
      /^invalid-input \| preprocess: no file is at /,
    )
  })

  it('a folder that holds no model', async () => {
    await mkdir(join(dir, 'empty-model'), { recursive: true })
    await writeFile(join(dir, 'empty-model', 'notes.txt'), '')
    expect(await refusal(hfToMegatron({ model: hfModel(join(dir, 'empty-model')) }))).toMatch(/^\S+ \| .*config\.json/)
  })

  it('a tokenizer without eos when one is to be appended', async () => {
    const bare = await changed('no-eos', 'tokenizer_config.json', text =>
      JSON.stringify({ ...JSON.parse(text), eos_token: undefined }),
    )
    await writeFile(join(bare.path, 'special_tokens_map.json'), '{}')
    expect(await refusal(preprocess({ corpus: rows, tokenizer: bare, ...sft }))).toMatch(
      /^invalid-input \| preprocess: the tokenizer in \S+ has no eos token to append\. Name one as "eos_token"/,
    )
  })

  it('a model of an unknown family', async () => {
    const odd = await changed('odd', 'config.json', text => text.replace('"llama"', '"mamba"'))
    expect(await refusal(hfToMegatron({ model: odd }))).toMatch(/^unsupported \| .*mamba/)
  })
})

describe('a run fails clearly on', () => {
  it('an empty dataset', async () => {
    await writeFile(join(dir, 'empty.jsonl'), '{"text":""}\n')
    const error = await run(preprocess({ corpus: corpus(join(dir, 'empty.jsonl')), tokenizer: model }), {
      store: store(),
    }).catch(caught => caught)
    expect([error.code, error.cause.code]).toEqual(['step-failed', 'invalid-input'])
    expect(error.message).toMatch(/^preprocess: .*1 row/)
  })

  it('a row without the column, naming file and line', async () => {
    await writeFile(join(dir, 'bad.jsonl'), '{"text":"a"}\n{"texte":"b"}\n')
    const error = await run(preprocess({ corpus: corpus(join(dir, 'bad.jsonl')), tokenizer: model }), {
      store: store(),
    }).catch(caught => caught)
    expect(error.message).toMatch(/bad\.jsonl.*(line|row) 2/)
  })
})
