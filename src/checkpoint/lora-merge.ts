import { InputError } from '../errors.ts'
import { type FloatDtype, floatValues, storeFloats } from '../formats/float-dtype.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { weightRules } from '../models/families.ts'
import { adapterName, targetWeight } from '../models/lora-rules.ts'
import { copyLanes } from './copier.ts'
import type { LoraSettings } from './megatron-args.ts'
import { planWeight, type Rectangle } from './weight-plan.ts'

/** Where the adapters of one Hugging Face tensor come from: B's rows follow the fused weight. */
interface Adapted {
  readonly a: string
  readonly b: string
  readonly rectangles: readonly Rectangle[]
}

/**
 * The dense weights `W + alpha / r · B·A`, under Hugging Face names. Each element is summed in float64 and rounded once
 * to the type of W. What the adapters' source has itself (embedding, output layer) is taken from there.
 *
 * Memory: a few adapters A in float64 and the rows being read. Closing it closes both sources.
 * @throws InputError when an adapter is missing or does not fit the base.
 */
export function mergeLora(options: {
  adapters: TensorSource
  base: TensorSource
  architecture: Architecture
  lora: LoraSettings
}): TensorSource {
  const { adapters, base, lora } = options
  const adapted = adaptedTensors(options)
  const names = new Set([...base.tensors.keys()].filter(name => !isAdapter(name)))
  const tensors = new Map(
    [...names].map(name => [name, adapters.tensors.get(name) ?? base.tensors.get(name)!] as const),
  )
  const scale = lora.alpha / lora.r
  // Tensors that are read at the same time share an A, or have one each.
  const matrices = new Map<string, Promise<Float64Array>>()
  const matrixOf = (name: string) => {
    const found = matrices.get(name) ?? readAll(adapters, name)
    matrices.delete(name)
    matrices.set(name, found)
    if (matrices.size > copyLanes) matrices.delete(matrices.keys().next().value!)
    return found
  }
  return {
    tensors,
    async close() {
      await adapters.close()
      if (base !== adapters) await base.close()
    },
    async readRows(name, start, end, into) {
      const places = adapted.get(name)
      if (places === undefined) return (adapters.tensors.has(name) ? adapters : base).readRows(name, start, end, into)
      const info = base.tensors.get(name)!
      const a = await matrixOf(places.a)
      const sums = await products(adapters, { ...places, start, end, a, width: info.shape[1]! })
      const bytes = into ?? new Uint8Array(sums.length * dtypeBytes[info.dtype])
      const weights = await base.readRows(name, start, end, bytes)
      return addScaled(weights, { dtype: info.dtype as FloatDtype, sums, scale })
    },
  }
}

function isAdapter(name: string): boolean {
  return /\.lora_[AB]\.weight$/.test(name)
}

function adaptedTensors(options: {
  adapters: TensorSource
  base: TensorSource
  architecture: Architecture
  lora: LoraSettings
}): ReadonlyMap<string, Adapted> {
  const { adapters, base, architecture, lora } = options
  const rules = weightRules(architecture)
  const adapted = new Map<string, Adapted>()
  for (let layer = 0; layer < architecture.numLayers; layer++) {
    for (const target of lora.targets) {
      const rule = rules.find(it => it.mcore === targetWeight(target))!
      const plan = planWeight(rule, { architecture, tp: 1, paddedVocabSize: architecture.vocabSize, layer })
      const [a, b] = [adapterName(layer, target, 'A'), adapterName(layer, target, 'B')]
      for (const name of [a, b, ...plan.parts.map(part => part.name)]) {
        const source = isAdapter(name) ? adapters : base
        if (!source.tensors.has(name))
          throw new InputError(`Merging LoRA: ${source === base ? 'the base has' : 'there is'} no tensor '${name}'.`)
      }
      for (const { name } of plan.parts) {
        adapted.set(name, { a, b, rectangles: plan.shards[0]!.rectangles.filter(it => it.tensor === name) })
      }
    }
  }
  return adapted
}

// B·A for rows of a Hugging Face tensor, row by row in float64.
async function products(
  adapters: TensorSource,
  options: Omit<Adapted, 'a'> & { start: number; end: number; a: Float64Array; width: number },
): Promise<Float64Array> {
  const { b, rectangles, start, end, a, width } = options
  const { dtype, shape } = adapters.tensors.get(b)!
  const rank = shape[1]!
  const sums = new Float64Array((end - start) * width)
  for (const { row, rows, shardRow } of rectangles) {
    const from = Math.max(start, row)
    const to = Math.min(end, row + rows)
    if (from >= to) continue
    const own = new Uint8Array((to - from) * rank * dtypeBytes[dtype])
    const bytes = await adapters.readRows(b, shardRow + from - row, shardRow + to - row, own)
    const factors = floatValues(bytes, dtype as FloatDtype)
    for (let i = 0; i < to - from; i++) {
      const sum = sums.subarray((from - start + i) * width, (from - start + i + 1) * width)
      for (let k = 0; k < rank; k++) {
        const factor = factors[i * rank + k]!
        for (let j = 0; j < width; j++) sum[j]! += factor * a[k * width + j]!
      }
    }
  }
  return sums
}

function addScaled(bytes: Uint8Array, options: { dtype: FloatDtype; sums: Float64Array; scale: number }): Uint8Array {
  const { dtype, sums, scale } = options
  const values = floatValues(bytes, dtype)
  for (let i = 0; i < sums.length; i++) sums[i] = values[i]! + scale * sums[i]!
  storeFloats(sums, dtype, bytes)
  return bytes
}

async function readAll(source: TensorSource, name: string): Promise<Float64Array> {
  const { dtype, shape }: TensorInfo = source.tensors.get(name)!
  const bytes = new Uint8Array(shape.reduce((x, y) => x * y, dtypeBytes[dtype]))
  return Float64Array.from(floatValues(await source.readRows(name, 0, shape[0]!, bytes), dtype as FloatDtype))
}
