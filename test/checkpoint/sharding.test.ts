import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listShards } from '../../src/checkpoint/megatron-folder.ts'
import { flattenModel } from '../../src/checkpoint/model-state.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { floatValues } from '../../src/formats/float-dtype.ts'
import type { PickleTensor } from '../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { familyModels, familyWeights, llamaWeights } from './fixtures/families.ts'
import { llama, memorySource, temporaryFolder } from './fixtures/tiny-model.ts'

// The expectations are derived here with whole matrices, as ModelLink's converter does it: fuse, pad, chunk.
type Matrix = number[][]
const cat = (...parts: Matrix[]): Matrix => parts.flat()
const chunk = (matrix: Matrix, count: number): Matrix[] => {
  const size = matrix.length / count
  return Array.from({ length: count }, (_, i) => matrix.slice(i * size, (i + 1) * size))
}
const transpose = (matrix: Matrix): Matrix => matrix[0]!.map((_, column) => matrix.map(row => row[column]!))
const pad = (matrix: Matrix, rows: number): Matrix => [
  ...matrix,
  ...Array.from({ length: rows - matrix.length }, () => matrix.at(-1)!),
]

// What one rank has of query, key and value: whole groups, or a part of one group's queries with its key and value.
function fuseQkv(
  model: Architecture,
  [q, k, v]: [Matrix, Matrix, Matrix],
  { tp, rank }: { tp: number; rank: number },
): Matrix {
  const groups = model.numQueryGroups
  const group = (matrix: Matrix, g: number): Matrix => chunk(matrix, groups)[g]!
  if (groups < tp) {
    const g = Math.floor(rank / (tp / groups))
    return cat(chunk(q, tp)[rank]!, group(k, g), group(v, g))
  }
  const all = Array.from({ length: groups }, (_, g) => cat(group(q, g), group(k, g), group(v, g)))
  return cat(...all.slice((rank * groups) / tp, ((rank + 1) * groups) / tp))
}

function expectedShard(
  model: Architecture,
  at: { tp: number; rank: number; layer: number; padded: number },
): Record<string, Matrix> {
  const weights = llamaWeights(model, 'F32')
  const read = (name: string): Matrix => {
    const { shape, bytes } = weights.get(name)!
    const flat = [...floatValues(bytes, 'F32')]
    const width = shape[1] ?? 1
    return Array.from({ length: shape[0]! }, (_, row) => flat.slice(row * width, (row + 1) * width))
  }
  const layer = (name: string): Matrix => read(`model.layers.${at.layer}.${name}`)
  const part = (matrix: Matrix): Matrix => chunk(matrix, at.tp)[at.rank]!
  const qkv = (kind: string): Matrix =>
    fuseQkv(model, ['q', 'k', 'v'].map(it => layer(`self_attn.${it}_proj.${kind}`)) as [Matrix, Matrix, Matrix], at)
  return {
    embedding: part(pad(read('model.embed_tokens.weight'), at.padded)),
    norm: layer('input_layernorm.weight'),
    qkv: qkv('weight'),
    ...(model.addQkvBias ? { bias: qkv('bias') } : {}),
    ...(model.qkNorm ? { keyNorm: layer('self_attn.k_norm.weight') } : {}),
    proj: transpose(part(transpose(layer('self_attn.o_proj.weight')))),
    fc1: cat(part(layer('mlp.gate_proj.weight')), part(layer('mlp.up_proj.weight'))),
    fc2: transpose(part(transpose(layer('mlp.down_proj.weight')))),
  }
}

const keys = {
  legacy: {
    embedding: 'embedding.word_embeddings.weight',
    norm: 'encoder.layers.2.input_norm.weight',
    qkv: 'encoder.layers.2.self_attention.query_key_value.weight',
    bias: 'encoder.layers.2.self_attention.query_key_value.bias',
    proj: 'encoder.layers.2.self_attention.dense.weight',
    fc1: 'encoder.layers.2.mlp.dense_h_to_4h.weight',
    fc2: 'encoder.layers.2.mlp.dense_4h_to_h.weight',
  },
  mcore: {
    embedding: 'embedding.word_embeddings.weight',
    norm: 'decoder.layers.2.input_layernorm.weight',
    qkv: 'decoder.layers.2.self_attention.linear_qkv.weight',
    bias: 'decoder.layers.2.self_attention.linear_qkv.bias',
    keyNorm: 'decoder.layers.2.self_attention.k_layernorm.weight',
    proj: 'decoder.layers.2.self_attention.linear_proj.weight',
    fc1: 'decoder.layers.2.mlp.linear_fc1.weight',
    fc2: 'decoder.layers.2.mlp.linear_fc2.weight',
  },
} as const

for (const [name, model] of Object.entries({ ...familyModels, 'llama with wide heads': { ...llama, kvChannels: 6 } })) {
  for (const layout of model.qkNorm ? (['mcore'] as const) : (['legacy', 'mcore'] as const)) {
    for (const tp of [1, 2, 4, 8]) {
      test(`${name}, ${layout}, tp ${tp}: each rank holds its chunk of the fused, padded weights`, async () => {
        const dir = join(await temporaryFolder(), 'out')
        const source = memorySource(familyWeights(model, 'F32'))
        await writeMegatronCheckpoint(dir, {
          source,
          architecture: model,
          parallel: { tp, pp: 1 },
          layout,
          iteration: 3,
          paddedVocabSize: 32,
        })
        for (const [rank, path] of (await listShards(dir, 3))[0]!.entries()) {
          const file = await openTorchFile(path)
          const entries = flattenModel(file).chunks[0]!
          for (const [what, expected] of Object.entries(expectedShard(model, { tp, rank, layer: 2, padded: 32 }))) {
            const tensor = entries.get((keys[layout] as Record<string, string>)[what]!) as PickleTensor
            const bytes = await file.readRows(tensor, { start: 0, end: tensor.shape[0]! })
            expect([what, [...floatValues(bytes, 'F32')]]).toEqual([what, expected.flat()])
          }
          await file.close()
        }
      })
    }
  }
}
