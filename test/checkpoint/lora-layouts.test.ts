import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { floatValues } from '../../src/formats/float-dtype.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import {
  llama,
  memorySource,
  readAll,
  sorted,
  temporaryFolder,
  tinyWeights,
  type Weights,
} from './fixtures/tiny-model.ts'

const [r, alpha] = [3, 7]
const dense = tinyWeights(llama)
const { numLayers, hiddenSize: hidden, ffnHiddenSize: ffn, numAttentionHeads, numQueryGroups, kvChannels: d } = llama
const perGroup = numAttentionHeads / numQueryGroups

function randomFloats(shape: readonly number[], seed: number) {
  let state = seed + 1
  const values = Float32Array.from({ length: shape[0]! * shape[1]! }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  })
  return { dtype: 'F32' as const, shape, bytes: new Uint8Array(values.buffer) }
}

const shapes = {
  linear_qkv: [(numAttentionHeads + 2 * numQueryGroups) * d, hidden],
  linear_proj: [hidden, numAttentionHeads * d],
  linear_fc1: [2 * ffn, hidden],
  linear_fc2: [hidden, ffn],
} as const
const adapters: Weights = new Map(
  Array.from({ length: numLayers }, (_, layer) =>
    loraTargets.flatMap((target, i) => {
      const name = `layers.${layer}.${target}.lora_`
      const [output, input] = shapes[target]
      return [
        [`${name}A.weight`, randomFloats([r, input], 10 * layer + i)] as const,
        [`${name}B.weight`, randomFloats([output, r], 100 + 10 * layer + i)] as const,
      ]
    }),
  ).flat(),
)

/** The row of the fused layer that row `row` of a Hugging Face tensor is. */
const fusedRow: Readonly<Record<string, readonly [keyof typeof shapes, (row: number) => number]>> = {
  q_proj: ['linear_qkv', row => row + Math.floor(row / (perGroup * d)) * 2 * d],
  k_proj: ['linear_qkv', row => (Math.floor(row / d) * (perGroup + 2) + perGroup) * d + (row % d)],
  v_proj: ['linear_qkv', row => (Math.floor(row / d) * (perGroup + 2) + perGroup + 1) * d + (row % d)],
  o_proj: ['linear_proj', row => row],
  gate_proj: ['linear_fc1', row => row],
  up_proj: ['linear_fc1', row => ffn + row],
  down_proj: ['linear_fc2', row => row],
}

/** The BF16 number nearest to `value`, of two as near the one with an even last bit. */
function nearestBf16(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0]! >>> 16
  const number = (high: number) => new Float32Array(new Uint32Array([high << 16]).buffer)[0]!
  const [near] = [bits - 1, bits, bits + 1].sort(
    (a, b) => Math.abs(number(a) - value) - Math.abs(number(b) - value) || (a % 2) - (b % 2),
  )
  return near!
}

const expected: Weights = new Map(
  [...dense].map(([name, { dtype, shape, bytes }]) => {
    const [, layer, module] = /layers\.(\d+)\..*\.(\w+)\.weight$/.exec(name) ?? []
    const place = fusedRow[module ?? '']
    if (place === undefined) return [name, { dtype, shape, bytes }]
    const [target, rowOf] = place
    const [a, b] = ['A', 'B'].map(it =>
      floatValues(adapters.get(`layers.${layer}.${target}.lora_${it}.weight`)!.bytes, 'F32'),
    ) as [Float32Array, Float32Array]
    const width = shape[1]!
    const merged = Uint16Array.from(floatValues(bytes, 'BF16'), (value, i) => {
      let sum = 0
      for (let k = 0; k < r; k++) sum += b[rowOf(Math.floor(i / width)) * r + k]! * a[k * width + (i % width)]!
      return nearestBf16(value + (alpha / r) * sum)
    })
    return [name, { dtype, shape, bytes: new Uint8Array(merged.buffer) }]
  }),
)

const cases = (['legacy', 'mcore'] as const).flatMap(layout =>
  [1, 2, 4, 8].flatMap(tp => [1, 2, 4].map(pp => ({ layout, tp, pp }))),
)

it.each(cases)('adapters in $layout tp $tp pp $pp merge to what float64 sums round to', async ({ layout, tp, pp }) => {
  const dir = await temporaryFolder()
  const [base, trained] = [join(dir, 'base'), join(dir, 'trained')]
  const common = { architecture: llama, layout, iteration: 1, flush: false } as const
  await writeMegatronCheckpoint(base, {
    ...{ ...common, source: memorySource(dense), parallel: { tp: 8 / tp, pp: pp === 1 ? 4 : 1 } },
  })
  await writeMegatronCheckpoint(trained, {
    ...{ ...common, source: memorySource(new Map([...dense, ...adapters])), parallel: { tp, pp } },
    lora: { r, alpha, targets: loraTargets, base },
  })
  const merged = await openMegatronCheckpoint(trained, { architecture: llama, base })
  expect(sorted(await readAll(merged))).toEqual(sorted(expected))
  await merged.close()
})
