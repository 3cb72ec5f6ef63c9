import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import {
  llama,
  memorySource,
  qwen2,
  temporaryFolder,
  tinyWeights,
  type Weights,
  writeHfFolder,
} from './fixtures/tiny-model.ts'

const hfEdits: readonly [
  string,
  Architecture,
  (weights: Map<string, Weights extends ReadonlyMap<string, infer T> ? T : never>) => unknown,
  object,
][] = [
  [
    'a tensor that no rule knows',
    llama,
    it => it.set('model.layers.0.self_attn.q_norm.weight', it.get('model.norm.weight')!),
    {
      expected: 'only tensors of a llama model',
      found: "'model.layers.0.self_attn.q_norm.weight', which no rule knows",
    },
  ],
  [
    'a layer too many',
    llama,
    it => it.set('model.layers.4.input_layernorm.weight', it.get('model.norm.weight')!),
    { found: "'model.layers.4.input_layernorm.weight', which no rule knows" },
  ],
  [
    'a bias that Llama does not have',
    llama,
    it => it.set('model.layers.0.self_attn.q_proj.bias', it.get('model.norm.weight')!),
    { found: "'model.layers.0.self_attn.q_proj.bias', which no rule knows" },
  ],
  [
    'a missing tensor',
    llama,
    it => it.delete('model.layers.3.mlp.up_proj.weight'),
    { expected: "tensor 'model.layers.3.mlp.up_proj.weight'", found: 'none' },
  ],
  [
    'a missing bias',
    qwen2,
    it => it.delete('model.layers.3.self_attn.k_proj.bias'),
    { expected: "tensor 'model.layers.3.self_attn.k_proj.bias'", found: 'none' },
  ],
  [
    'a tensor of another shape',
    llama,
    it => it.set('model.norm.weight', it.get('lm_head.weight')!),
    { expected: "tensor 'model.norm.weight' of shape [16], as config.json says", found: '[21,16]' },
  ],
  [
    'an output layer that differs from the embedding it is tied to',
    { ...llama, tiedEmbeddings: true },
    it => it.set('lm_head.weight', tinyWeights(llama).get('lm_head.weight')!),
    { expected: "'lm_head.weight' to equal 'model.embed_tokens.weight', since tie_word_embeddings is true" },
  ],
]

test.each(hfEdits)('a Hugging Face folder with %s is refused by name', async (_, model, edit, expected) => {
  const dir = await temporaryFolder()
  const weights = new Map(tinyWeights(model))
  edit(weights)
  await writeHfFolder(dir, model, weights)
  await expect(openHfModel(dir)).rejects.toMatchObject({ code: 'bad-format', file: dir, ...expected })
})

test('rotary_emb.inv_freq, and an output layer equal to the embedding it is tied to, are left out', async () => {
  const model = { ...llama, tiedEmbeddings: true }
  const dir = await temporaryFolder()
  const weights = new Map(tinyWeights(model))
  weights.set('model.layers.0.self_attn.rotary_emb.inv_freq', { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) })
  weights.set('lm_head.weight', weights.get('model.embed_tokens.weight')!)
  await writeHfFolder(dir, model, weights)
  const source = await openHfModel(dir)
  expect([...source.tensors.keys()].sort()).toEqual([...tinyWeights(model).keys()].sort())
  await source.close()
})

test('a model is not written over a folder that holds something, nor beside a configuration of another model', async () => {
  const dir = await temporaryFolder()
  await writeHfFolder(join(dir, 'hf'), llama, tinyWeights(llama))
  const common = { source: memorySource(tinyWeights(llama)), architecture: llama, like: join(dir, 'hf') }
  await expect(writeHfModel(join(dir, 'hf'), common)).rejects.toThrow(/exists and is not an empty folder/)
  await writeHfFolder(join(dir, 'other'), { ...llama, vocabSize: 22 }, tinyWeights(llama))
  await expect(writeHfModel(join(dir, 'out'), { ...common, like: join(dir, 'other') })).rejects.toThrow(
    /The weights have vocabSize 21, .*config.json has 22/,
  )
})
