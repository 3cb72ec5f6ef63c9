import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { manifestName } from '../../src/checkpoint/manifest.ts'
import { verify } from '../../src/checkpoint/verify.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { CancelledError, InputError } from '../../src/errors.ts'
import { rewriteShard, weightOf } from './corruptions/rewrite-shard.ts'
import { llama, memorySource, qwen2, temporaryFolder, tinyWeights, writeHfFolder } from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('golden/legacy-tp2-pp2', import.meta.url))
const shard = (dir: string, rank: string): string => join(dir, 'iter_0000001', rank, 'model_optim_rng.pt')

async function pair(model = llama, parallel: { tp: number; pp: number } = { tp: 2, pp: 2 }, consumedTrainSamples = 0) {
  const dir = await temporaryFolder()
  const [hf, megatron] = [join(dir, 'hf'), join(dir, 'mg')]
  await writeHfFolder(hf, model, tinyWeights(model))
  const source = memorySource(tinyWeights(model))
  const facts = { architecture: model, layout: 'legacy', iteration: 1, consumedTrainSamples } as const
  await writeMegatronCheckpoint(megatron, { source, ...facts, parallel })
  return { hf, megatron }
}

// 2 groups a rank, each 4 query rows, 2 key rows, 2 value rows; layer 3 is the second of stage 1.
const slices: readonly [string, string, string[], number, object][] = [
  [
    'a key row of the second group on rank 1',
    'mp_rank_01_001',
    ['layers.1.', 'query_key_value'],
    // Row 12 of the shard, element 5: group 3 of the model, its first key row.
    12 * 32 + 10,
    {
      tensor: 'model.layers.3.self_attn.k_proj.weight',
      rows: { start: 6, end: 7 },
      columns: { start: 5, end: 6 },
      rank: { tp: 1, stage: 1 },
      key: 'encoder.layers.1.self_attention.query_key_value.weight',
      shardRows: { start: 12, end: 13 },
      isPadding: false,
    },
  ],
  [
    'a column of a row-parallel weight on rank 1',
    'mp_rank_01_000',
    ['layers.0.', 'dense_4h_to_h'],
    3 * 24 + 2 * 4,
    {
      tensor: 'model.layers.0.mlp.down_proj.weight',
      rows: { start: 3, end: 4 },
      columns: { start: 12 + 4, end: 12 + 5 },
      shardRows: { start: 3, end: 4 },
    },
  ],
  [
    'an up row on rank 0',
    'mp_rank_00_000',
    ['layers.1.', 'dense_h_to_4h'],
    (12 + 7) * 32,
    { tensor: 'model.layers.1.mlp.up_proj.weight', rows: { start: 7, end: 8 }, columns: { start: 0, end: 1 } },
  ],
  [
    'a copy of a norm on rank 1',
    'mp_rank_01_000',
    ['layers.0.', 'input_norm'],
    2 * 9,
    {
      tensor: 'model.layers.0.input_layernorm.weight',
      rows: { start: 9, end: 10 },
      columns: { start: 0, end: 1 },
      rank: { tp: 1, stage: 0 },
    },
  ],
  [
    'padding of the vocabulary',
    'mp_rank_01_000',
    ['word_embeddings'],
    10 * 32 + 4,
    {
      tensor: 'model.embed_tokens.weight',
      rows: { start: 20, end: 21 },
      columns: { start: 2, end: 3 },
      shardRows: { start: 10, end: 11 },
      isPadding: true,
    },
  ],
]

test.each(slices)(
  '%s that differs is named by tensor, rows, columns and rank',
  async (_, rank, parts, at, expected) => {
    const { hf, megatron } = await pair()
    await rewriteShard(shard(megatron, rank), content => {
      weightOf(content, ...parts).bytes[at]! ^= 1
    })
    const { equal, differences, checked } = await verify({ hf, megatron })
    expect(equal).toBe(false)
    expect(checked).toBe('values')
    expect(differences).toMatchObject([{ kind: 'values', path: shard(megatron, rank), ...expected }])
  },
)

test('the slice has all that differs: rows and columns of the first tensor', async () => {
  const { hf, megatron } = await pair()
  await rewriteShard(shard(megatron, 'mp_rank_00_000'), content => {
    const { bytes } = weightOf(content, 'layers.0.', 'attention.dense')
    for (const at of [2 * 16 + 2, 5 * 16 + 9]) bytes[at]! ^= 128
  })
  const found = await verify({ hf, megatron })
  expect(found.differences).toMatchObject([{ rows: { start: 2, end: 6 }, columns: { start: 1, end: 5 } }])
  expect(String(found)).toContain(
    "✗ 'model.layers.0.self_attn.o_proj.weight' differs in rows 2 to 5, columns 1 to 4 (tp rank 0, stage 0: rows 2 to 5 of 'encoder.layers.0.self_attention.dense.weight' in ",
  )
})

test('a tied copy on the last stage is compared, too', async () => {
  const { hf, megatron } = await pair({ ...qwen2, tiedEmbeddings: true })
  await rewriteShard(shard(megatron, 'mp_rank_00_001'), content => {
    weightOf(content, 'word_embeddings_for_head').bytes[0]! ^= 1
  })
  expect((await verify({ hf, megatron })).differences).toMatchObject([
    { tensor: 'model.embed_tokens.weight', rank: { tp: 0, stage: 1 }, key: 'word_embeddings_for_head.weight' },
  ])
})

test('padding that training has changed is not compared', async () => {
  const { hf, megatron } = await pair(llama, { tp: 2, pp: 1 }, 64)
  await rewriteShard(shard(megatron, 'mp_rank_01'), content => {
    weightOf(content, 'word_embeddings').bytes[10 * 32]! ^= 1
  })
  expect((await verify({ hf, megatron })).equal).toBe(true)
})

test('the first differences are reported, up to a number', async () => {
  const { hf, megatron } = await pair()
  await cp(shard(megatron, 'mp_rank_01_000'), shard(megatron, 'mp_rank_00_000'))
  expect((await verify({ hf, megatron, maxDifferences: 3 })).differences).toHaveLength(3)
})

test('shards stored in another type equal the rounded model when that type was asked for', async () => {
  const { hf, megatron } = await pair()
  await rm(megatron, { recursive: true })
  const source = memorySource(tinyWeights(llama))
  const facts = { architecture: llama, layout: 'mcore', iteration: 1, dtype: 'F16' } as const
  await writeMegatronCheckpoint(megatron, { source, ...facts, parallel: { tp: 1, pp: 1 } })
  const asked = await verify({ hf, megatron, dtype: 'F16' })
  expect(asked).toMatchObject({ equal: true, checked: 'values' })
  const { differences } = await verify({ hf, megatron })
  expect(differences[0]).toMatchObject({ kind: 'dtype', tensor: 'model.embed_tokens.weight', found: 'F16' })
})

test('headers alone are compared when contents are not asked for', async () => {
  const { hf, megatron } = await pair()
  await rewriteShard(shard(megatron, 'mp_rank_00_000'), content => {
    weightOf(content, 'word_embeddings').bytes[0]! ^= 1
  })
  expect(await verify({ hf, megatron, contents: false })).toMatchObject({ equal: true, checked: 'headers', bytes: 0 })
})

test('a side that cannot be opened is a difference with what was expected', async () => {
  const { hf, megatron } = await pair()
  await rm(shard(megatron, 'mp_rank_00_001'))
  expect((await verify({ hf, megatron })).differences).toEqual([
    { kind: 'structure', path: shard(megatron, 'mp_rank_00_001'), expected: 'a file', found: 'nothing' },
  ])
})

test("a checkpoint alone is compared with its manifest, a toolchain's with the sums in its files", async () => {
  const { megatron, hf } = await pair()
  expect(await verify({ megatron })).toMatchObject({ equal: true, checked: 'digests', tensors: 54 })
  expect(await verify({ megatron: golden })).toMatchObject({ equal: true, checked: 'digests', tensors: 54 })
  await rewriteShard(shard(megatron, 'mp_rank_00_000'), content => {
    weightOf(content, 'word_embeddings').bytes[0]! ^= 1
  })
  expect((await verify({ megatron })).differences).toMatchObject([
    { kind: 'structure' },
    { kind: 'digest', tensor: 'model.embedding.word_embeddings.weight', path: shard(megatron, 'mp_rank_00_000') },
  ])
  await rm(join(megatron, 'iter_0000001', manifestName))
  expect(await verify({ megatron })).toMatchObject({ equal: true })
  expect(await verify({ hf })).toMatchObject({ equal: true, tensors: 0 })
})

test('nothing to verify, adapters and an aborted signal are errors', async () => {
  await expect(verify({})).rejects.toThrow(InputError)
  const { hf, megatron } = await pair()
  await expect(verify({ hf, megatron, signal: AbortSignal.abort() })).rejects.toThrow(CancelledError)
})

test('progress rises to the bytes of all shards', async () => {
  const { hf, megatron } = await pair()
  const seen: [number, number][] = []
  await verify({ hf, megatron, onProgress: (done, total) => seen.push([done, total]) })
  expect(seen.at(-1)![0]).toBe(seen.at(-1)![1])
  expect(seen.every(([done], i) => i === 0 || done > seen[i - 1]![0])).toBe(true)
})
