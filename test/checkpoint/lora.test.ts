import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { listShards } from '../../src/checkpoint/megatron-folder.ts'
import { flattenModel } from '../../src/checkpoint/model-state.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import type { MegatronLayout } from '../../src/checkpoint/stage-weights.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { floatValues } from '../../src/formats/float-dtype.ts'
import { type NewTensor, type PickleNamespace, type PickleTensor, pickleDict } from '../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import { createTorchFile, planTorchFile } from '../../src/formats/torch-writer.ts'
import { type LoraTarget, loraTargets } from '../../src/models/lora-rules.ts'
import {
  llama,
  memorySource,
  qwen2,
  readAll,
  sorted,
  temporaryFolder,
  tinyWeights,
  type Weights,
} from './fixtures/tiny-model.ts'

// Whole numbers, so that sums are exact in any order and expectations hold to the last bit.
function wholeNumbers(
  shape: readonly number[],
  seed: number,
): Weights extends ReadonlyMap<string, infer T> ? T : never {
  const count = shape.reduce((a, b) => a * b, 1)
  const values = Float32Array.from({ length: count }, (_, i) => ((i * 7 + seed * 13) % 11) - 5)
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }
}

const r = 3
const alpha = 6
const model = qwen2
const hidden = model.hiddenSize
const heads = model.numAttentionHeads * model.kvChannels
const groups = model.numQueryGroups * model.kvChannels
const ffn = model.ffnHiddenSize
const adapterShapes: Readonly<Record<LoraTarget, { a: number[]; b: number[] }>> = {
  linear_qkv: { a: [r, hidden], b: [heads + 2 * groups, r] },
  linear_proj: { a: [r, heads], b: [hidden, r] },
  linear_fc1: { a: [r, hidden], b: [2 * ffn, r] },
  linear_fc2: { a: [r, ffn], b: [hidden, r] },
}
const dense: Weights = new Map([...tinyWeights(model)].map(([name, { shape }], i) => [name, wholeNumbers(shape, i)]))
const adapters: Weights = new Map(
  Array.from({ length: model.numLayers }, (_, layer) =>
    loraTargets.flatMap((target, i) =>
      (['A', 'B'] as const).map(matrix => {
        const shape = adapterShapes[target][matrix === 'A' ? 'a' : 'b']
        return [
          `layers.${layer}.${target}.lora_${matrix}.weight`,
          wholeNumbers(shape, 100 * layer + 10 * i + shape.length),
        ] as const
      }),
    ),
  ).flat(),
)

/** Rows of B that belong to a Hugging Face tensor, by the definition of the fused weight. */
function fusedRows(tensor: string): { target: LoraTarget; rows: number[] } | undefined {
  const { numQueryGroups, numAttentionHeads, kvChannels: d } = model
  const rep = numAttentionHeads / numQueryGroups
  const perGroup = (start: number, count: number): number[] =>
    Array.from({ length: numQueryGroups }, (_, g) =>
      Array.from({ length: count * d }, (_, i) => (g * (rep + 2) + start) * d + i),
    ).flat()
  const range = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i)
  if (tensor.endsWith('q_proj.weight')) return { target: 'linear_qkv', rows: perGroup(0, rep) }
  if (tensor.endsWith('k_proj.weight')) return { target: 'linear_qkv', rows: perGroup(rep, 1) }
  if (tensor.endsWith('v_proj.weight')) return { target: 'linear_qkv', rows: perGroup(rep + 1, 1) }
  if (tensor.endsWith('o_proj.weight')) return { target: 'linear_proj', rows: range(0, hidden) }
  if (tensor.endsWith('gate_proj.weight')) return { target: 'linear_fc1', rows: range(0, ffn) }
  if (tensor.endsWith('up_proj.weight')) return { target: 'linear_fc1', rows: range(ffn, ffn) }
  if (tensor.endsWith('down_proj.weight')) return { target: 'linear_fc2', rows: range(0, hidden) }
  return undefined
}

function mergedByHand(targets: readonly LoraTarget[]): Weights {
  return new Map(
    [...dense].map(([name, { dtype, shape, bytes }]) => {
      const fused = fusedRows(name)
      if (fused === undefined || !targets.includes(fused.target)) return [name, { dtype, shape, bytes }]
      const layer = /layers\.(\d+)\./.exec(name)![1]
      const [a, b] = (['A', 'B'] as const).map(it =>
        floatValues(adapters.get(`layers.${layer}.${fused.target}.lora_${it}.weight`)!.bytes, 'F32'),
      ) as [Float32Array, Float32Array]
      const width = shape[1]!
      const values = floatValues(bytes, 'F32').map((value, i) => {
        const [row, column] = [fused.rows[Math.floor(i / width)]!, i % width]
        const product = Array.from({ length: r }, (_, k) => b[row * r + k]! * a[k * width + column]!).reduce(
          (x, y) => x + y,
          0,
        )
        return value + (alpha / r) * product
      })
      return [name, { dtype, shape, bytes: new Uint8Array(values.buffer) }]
    }),
  )
}

const withAdapters = memorySource(new Map([...dense, ...adapters]))
const cases: {
  layout: MegatronLayout
  tp: number
  pp: number
  targets: readonly LoraTarget[]
  baseTp: number
  basePp: number
}[] = [
  { layout: 'legacy', tp: 1, pp: 1, targets: loraTargets, baseTp: 1, basePp: 1 },
  { layout: 'legacy', tp: 2, pp: 1, targets: loraTargets, baseTp: 4, basePp: 1 },
  { layout: 'legacy', tp: 1, pp: 4, targets: loraTargets, baseTp: 2, basePp: 2 },
  { layout: 'legacy', tp: 4, pp: 2, targets: loraTargets, baseTp: 1, basePp: 4 },
  { layout: 'mcore', tp: 4, pp: 2, targets: loraTargets, baseTp: 2, basePp: 1 },
  { layout: 'legacy', tp: 2, pp: 2, targets: ['linear_qkv'], baseTp: 2, basePp: 2 },
  { layout: 'mcore', tp: 2, pp: 2, targets: ['linear_proj', 'linear_fc2'], baseTp: 2, basePp: 2 },
]

for (const { layout, tp, pp, targets, baseTp, basePp } of cases) {
  test(`adapters on ${targets.join(' ')} from ${layout} tp ${tp} pp ${pp} merge exactly into a base of tp ${baseTp} pp ${basePp}`, async () => {
    const dir = await temporaryFolder()
    const [base, out] = [join(dir, 'base'), join(dir, 'out')]
    const lora = { r, alpha, targets, base }
    const used = new Map([...adapters].filter(([name]) => targets.some(target => name.includes(target))))
    await writeMegatronCheckpoint(base, {
      source: memorySource(dense),
      architecture: model,
      parallel: { tp: baseTp, pp: basePp },
      layout,
      iteration: 1,
    })
    const source = memorySource(new Map([...dense, ...used]))
    await writeMegatronCheckpoint(out, {
      source,
      architecture: model,
      parallel: { tp, pp },
      layout,
      iteration: 20,
      lora,
    })

    const alone = await openMegatronCheckpoint(out, { architecture: model })
    expect(alone.lora).toEqual(lora)
    const own = new Map([
      ...used,
      ['model.embed_tokens.weight', dense.get('model.embed_tokens.weight')!],
      ['lm_head.weight', dense.get('lm_head.weight')!],
    ])
    expect(sorted(await readAll(alone))).toEqual(sorted(own))
    await alone.close()

    const merged = await openMegatronCheckpoint(out, { architecture: model, base })
    expect(sorted(await readAll(merged))).toEqual(sorted(mergedByHand(targets)))
    await merged.close()
  })
}

test('embedding and output layer of a LoRA checkpoint come from the base when the source has adapters alone', async () => {
  const dir = await temporaryFolder()
  const base = join(dir, 'base')
  const common = { architecture: model, layout: 'legacy', iteration: 1 } as const
  await writeMegatronCheckpoint(base, { ...common, source: memorySource(dense), parallel: { tp: 1, pp: 2 } })
  const lora = { r, alpha, targets: loraTargets, base }
  await writeMegatronCheckpoint(join(dir, 'out'), {
    ...common,
    source: memorySource(adapters),
    parallel: { tp: 2, pp: 1 },
    lora,
  })
  const merged = await openMegatronCheckpoint(join(dir, 'out'), { base })
  expect(sorted(await readAll(merged))).toEqual(sorted(mergedByHand(loraTargets)))
  await merged.close()
})

test('a legacy LoRA file holds adapters under their PEFT names, embedding and output layer, and nothing else', async () => {
  const dir = join(await temporaryFolder(), 'out')
  const lora = { r, alpha, targets: loraTargets, base: '/models/base' }
  await writeMegatronCheckpoint(dir, {
    source: withAdapters,
    architecture: model,
    parallel: { tp: 1, pp: 1 },
    layout: 'legacy',
    iteration: 1,
    lora,
  })
  const file = await openTorchFile((await listShards(dir, 1))[0]![0]!)
  const keys = [...flattenModel(file).chunks[0]!.keys()].filter(key => !key.endsWith('_extra_state'))
  const linears = ['self_attention.query_key_value', 'self_attention.dense', 'mlp.dense_h_to_4h', 'mlp.dense_4h_to_h']
  const expected = [0, 1, 2, 3].flatMap(layer =>
    linears.flatMap(linear => ['A', 'B'].map(it => `encoder.layers.${layer}.${linear}.lora_${it}.default.weight`)),
  )
  expect(keys.sort()).toEqual(['embedding.word_embeddings.weight', 'output_layer.weight', ...expected].sort())
  const { fields } = (file.value as ReadonlyMap<string, PickleNamespace>).get('args')!
  expect(['lora_r', 'lora_alpha', 'lora_target_modules', 'load'].map(field => fields.get(field))).toEqual([
    3,
    6,
    ['query_key_value', 'dense', 'dense_h_to_4h', 'dense_4h_to_h'],
    '/models/base',
  ])
  await file.close()
})

test('a Megatron-Core checkpoint with frozen weights beside the adapters is merged by itself', async () => {
  const dir = await temporaryFolder()
  const common = { architecture: model, parallel: { tp: 1, pp: 1 }, layout: 'mcore', iteration: 1 } as const
  await writeMegatronCheckpoint(join(dir, 'dense'), { ...common, source: memorySource(dense) })
  const lora = { r, alpha, targets: loraTargets, base: '' }
  await writeMegatronCheckpoint(join(dir, 'lora'), { ...common, source: withAdapters, lora })
  const [frozen, adapted] = await Promise.all(
    ['dense', 'lora'].map(async name => openTorchFile((await listShards(join(dir, name), 1))[0]![0]!)),
  )
  // PEFT renames what it wraps: linear_qkv.weight becomes linear_qkv.base_layer.weight.
  const wrapped = /(linear_\w+)\.(weight|bias)$/
  const tensors = new Map<string, [NewTensor, Uint8Array]>()
  for (const file of [frozen!, adapted!]) {
    for (const [key, value] of flattenModel(file).chunks[0]!) {
      if (value === null) continue
      const { dtype, shape } = value as PickleTensor
      const bytes = await file.readRows(value as PickleTensor, { start: 0, end: shape[0]! })
      tensors.set(key.replace(wrapped, '$1.base_layer.$2'), [{ type: 'new-tensor', dtype, shape }, bytes])
    }
  }
  const path = join(dir, 'both', 'iter_0000001', 'mp_rank_00', 'model_optim_rng.pt')
  await mkdir(dirname(path), { recursive: true })
  await writeFile(join(dir, 'both', 'latest_checkpointed_iteration.txt'), '1')
  const entries = new Map([...tensors].map(([key, [tensor]]) => [key, tensor]))
  const args = (adapted!.value as ReadonlyMap<string, PickleNamespace>).get('args')!
  const value = pickleDict([
    ['args', args],
    ['model', { type: 'ordered-dict', entries }],
  ])
  const writer = await createTorchFile(path, planTorchFile(value, { root: 'model_optim_rng' }))
  for (const [tensor, bytes] of tensors.values()) await writer.write(tensor, bytes)
  await writer.finish()
  const merged = await openMegatronCheckpoint(join(dir, 'both'), { architecture: model })
  expect(sorted(await readAll(merged))).toEqual(sorted(mergedByHand(loraTargets)))
  for (const file of [frozen!, adapted!, merged]) await file.close()
})

test('merged elements are rounded once, not twice', async () => {
  // 1 + 2^-8 lies midway between two BF16 numbers; the adapters add 2^-40, too little for float32, enough to round up.
  const dir = await temporaryFolder()
  const one: Weights = new Map(
    [...tinyWeights(llama)].map(([name, weight]) => [name, { ...weight, bytes: bf16(weight.bytes.length / 2, 1) }]),
  )
  const base = join(dir, 'base')
  const common = { architecture: llama, parallel: { tp: 1, pp: 1 }, layout: 'mcore', iteration: 1 } as const
  await writeMegatronCheckpoint(base, { ...common, source: memorySource(one) })
  // r 2: 2^-8 · 1 + 2^-40 · 1 = B·A with B = [2^-8, 2^-40], A = [[1…], [1…]].
  const small: Weights = new Map(
    Array.from({ length: 4 }, (_, layer) => [
      [`layers.${layer}.linear_proj.lora_A.weight`, f32([2, 16], () => 1)] as const,
      [`layers.${layer}.linear_proj.lora_B.weight`, f32([16, 2], i => (i % 2 === 0 ? 2 ** -8 : 2 ** -40))] as const,
    ]).flat(),
  )
  const lora = { r: 2, alpha: 2, targets: ['linear_proj'] as const, base }
  await writeMegatronCheckpoint(join(dir, 'out'), { ...common, source: memorySource(small), lora })
  const merged = await openMegatronCheckpoint(join(dir, 'out'), { base })
  const bytes = await merged.readRows('model.layers.0.self_attn.o_proj.weight', 0, 1)
  expect(floatValues(bytes, 'BF16')[0]).toBe(1 + 2 ** -7)
  await merged.close()
})

function bf16(count: number, value: number): Uint8Array {
  const high = new Uint16Array(new Float32Array([value]).buffer)[1]!
  return new Uint8Array(new Uint16Array(count).fill(high).buffer)
}

function f32(
  shape: readonly number[],
  value: (i: number) => number,
): { dtype: 'F32'; shape: readonly number[]; bytes: Uint8Array } {
  const count = shape.reduce((a, b) => a * b, 1)
  return { dtype: 'F32', shape, bytes: new Uint8Array(Float32Array.from({ length: count }, (_, i) => value(i)).buffer) }
}
