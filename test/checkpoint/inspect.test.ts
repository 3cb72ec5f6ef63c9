import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { inspect } from '../../src/checkpoint/inspect.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import {
  llama,
  memorySource,
  safetensorsBytes,
  temporaryFolder,
  tinyWeights,
  writeHfFolder,
} from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('golden/legacy-tp2-pp2', import.meta.url))
const training = fileURLToPath(new URL('../formats/golden/training.pt', import.meta.url))

test("the real converter's checkpoint: layout, ranks, tensors, types, bytes", async () => {
  const found = await inspect(golden)
  expect(found).toMatchObject({
    ...{ kind: 'megatron', iteration: 1, iterations: [1], tracker: 1, layout: 'legacy', tp: 2, pp: 2, vpp: 1 },
    ...{ layers: [[2], [2]], paddedVocabSize: 102, optimizer: 'none', isLora: false, hasManifest: false },
    architecture: { family: 'llama', numLayers: 4, hiddenSize: 64 },
  })
  expect(found.files.map(({ file, rank, tensors }) => [file, rank, tensors.length])).toEqual([
    ['iter_0000001/mp_rank_00_000/model_optim_rng.pt', { tp: 0, stage: 0 }, 13],
    ['iter_0000001/mp_rank_01_000/model_optim_rng.pt', { tp: 1, stage: 0 }, 13],
    ['iter_0000001/mp_rank_00_001/model_optim_rng.pt', { tp: 0, stage: 1 }, 14],
    ['iter_0000001/mp_rank_01_001/model_optim_rng.pt', { tp: 1, stage: 1 }, 14],
  ])
  // 8 heads of 8 in 4 groups, ffn 96: two ranks, padded vocabulary, norms twice.
  const layer = 128 * 64 + 64 * 64 + 192 * 64 + 96 * 64 + 2 * 2 * 64
  expect(found.tensorBytes).toBe(2 * (4 * layer + 2 * 102 * 64 + 2 * 64))
})

test('one iteration, one shard and any torch.save file can be inspected by their own paths', async () => {
  expect(await inspect(join(golden, 'iter_0000001'))).toMatchObject({ kind: 'megatron', iteration: 1, tp: 2 })
  const shard = await inspect(join(golden, 'iter_0000001', 'mp_rank_00_000', 'model_optim_rng.pt'))
  expect(shard).toMatchObject({ kind: 'torch', files: [{ file: 'model_optim_rng.pt' }] })
  expect((await inspect(training)).files[0]!.tensors.length).toBeGreaterThan(10)
})

test('virtual stages, uneven stages and other iterations are told', async () => {
  const dir = await temporaryFolder()
  const source = memorySource(tinyWeights(llama))
  const facts = { source, architecture: llama, layout: 'mcore' } as const
  await writeMegatronCheckpoint(dir, { ...facts, iteration: 1, parallel: { tp: 1, pp: 2, layersPerVirtualStage: 1 } })
  await writeMegatronCheckpoint(dir, { ...facts, iteration: 20, parallel: { tp: 1, pp: 2, layersPerStage: [1, 3] } })
  const even = {
    layout: 'mcore',
    vpp: 2,
    tracker: 20,
    layers: [
      [1, 1],
      [1, 1],
    ],
    hasManifest: true,
  }
  expect(await inspect(dir, { iteration: 1 })).toMatchObject({ iteration: 1, iterations: [1, 20], ...even })
  expect(await inspect(dir)).toMatchObject({ iteration: 20, vpp: 1, layers: [[1], [3]] })
  await rm(join(dir, 'latest_checkpointed_iteration.txt'))
  const lost = await inspect(dir)
  expect(lost).toMatchObject({ iteration: 20 })
  expect('tracker' in lost).toBe(false)
})

test('a Hugging Face folder is told with the numbers of config.json, and without them when it is of an unknown family', async () => {
  const dir = await temporaryFolder()
  await writeHfFolder(dir, llama, tinyWeights(llama))
  expect(await inspect(dir)).toMatchObject({ kind: 'hf', architecture: { numLayers: 4 }, hasManifest: false })
  await writeFile(join(dir, 'config.json'), '{"model_type":"gpt9"}')
  const found = await inspect(dir)
  expect(found.architecture).toBeUndefined()
  expect(found.unknown).toContain("'gpt9'")
})

test('the printed text has facts, files and a line for each kind of tensor, in columns that also fit Chinese', async () => {
  const dir = join(await temporaryFolder(), '模型')
  await writeHfFolder(dir, { ...llama, numLayers: 2 }, tinyWeights({ ...llama, numLayers: 2 }))
  expect(String(await inspect(dir)).replace(dir, '模型')).toBe(`Hugging Face model  模型
model               llama · 2 layers × 16 · 8 heads in 4 groups · vocabulary 21
weights             21 tensors · BF16 · 9.2 KB in 1 file

model.safetensors  21 tensors  11.2 KB

model.embed_tokens.weight                            BF16  [21, 16]
model.layers.{0..1}.input_layernorm.weight           BF16  [16]      × 2
model.layers.{0..1}.self_attn.q_proj.weight          BF16  [16, 16]  × 2
model.layers.{0..1}.self_attn.k_proj.weight          BF16  [8, 16]   × 2
model.layers.{0..1}.self_attn.v_proj.weight          BF16  [8, 16]   × 2
model.layers.{0..1}.self_attn.o_proj.weight          BF16  [16, 16]  × 2
model.layers.{0..1}.post_attention_layernorm.weight  BF16  [16]      × 2
model.layers.{0..1}.mlp.gate_proj.weight             BF16  [24, 16]  × 2
model.layers.{0..1}.mlp.up_proj.weight               BF16  [24, 16]  × 2
model.layers.{0..1}.mlp.down_proj.weight             BF16  [16, 24]  × 2
model.norm.weight                                    BF16  [16]
lm_head.weight                                       BF16  [21, 16]`)
  const wide = new Map([
    ['权重.weight', { dtype: 'BF16', shape: [1], bytes: new Uint8Array(2) }],
    ['a.weight.xx', { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }],
  ] as const)
  await writeFile(join(dir, '..', 'w.safetensors'), safetensorsBytes(wide))
  const text = String(await inspect(join(dir, '..', 'w.safetensors')))
  expect(text).toContain('权重.weight  BF16  [1]\na.weight.xx  F32   [1]')
})

test('names from a file cannot steer the terminal', async () => {
  const path = join(await temporaryFolder(), 'x.safetensors')
  await writeFile(
    path,
    safetensorsBytes(new Map([['a\u001b[2Jb', { dtype: 'U8', shape: [1], bytes: new Uint8Array(1) }]])),
  )
  expect(String(await inspect(path))).toContain('a\\u001b[2Jb')
})

test('what is no checkpoint is refused by name', async () => {
  const dir = await temporaryFolder()
  await expect(inspect(join(dir, 'none'))).rejects.toMatchObject({ code: 'bad-format', found: 'nothing' })
  await expect(inspect(dir)).rejects.toMatchObject({ code: 'bad-format', found: 'a folder with nothing' })
  await cp(golden, dir, { recursive: true })
  await expect(inspect(dir, { iteration: 9 })).rejects.toMatchObject({ found: 'no such folder' })
})
