import { join } from 'node:path'
import { FormatError, InputError } from '../errors.ts'
import { isFloatDtype } from '../formats/float-dtype.ts'
import { openSafetensors } from '../formats/safetensors.ts'
import { type Dtype, dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { adapterName, type LoraTarget, loraTargets } from '../models/lora-rules.ts'
import type { LoraSettings } from './megatron-args.ts'
import { peftFiles, readPeftConfig } from './peft-config.ts'
import { type PeftModule, peftModules, peftTensor } from './peft-modules.ts'

/** The adapters of a PEFT folder under `adapterName`s, fused for Megatron's layers. */
export interface PeftSource extends TensorSource {
  readonly lora: Omit<LoraSettings, 'base'>
}

/** Adapters of one of Megatron's layers; the modules that share a matrix A share a block of its rows. */
interface Fused {
  /** Module by module, with the number of its block. */
  readonly members: readonly { readonly module: PeftModule; readonly block: number }[]
  /** The A of each block. */
  readonly blocks: readonly string[]
  readonly input: number
  readonly output: number
}

/**
 * Opens a PEFT folder of LoRA adapters for Megatron, whose query, key and value (and gate and up) are one layer: with a
 * matrix A of each, their A lie one above the other and B is block-diagonal, so that the rank is up to three times
 * PEFT's and every product is the same; where they share one A, the rank stays. Megatron has one rank for all layers:
 * others get rows and columns of zeros, as do layers without adapters. `alpha` grows with the rank.
 *
 * Reads the header, and the A of what is fused. Memory: two matrices A, and the rows being read.
 * @throws UnsupportedError for other than plain LoRA; FormatError naming the tensor that no layer takes, or that is
 * missing or of another shape.
 */
export async function openPeftAdapter(dir: string, architecture: Architecture): Promise<PeftSource> {
  const { r, alpha } = await readPeftConfig(dir)
  const path = join(dir, peftFiles.weights)
  const file = await openSafetensors(path)
  try {
    const modules = peftModules(architecture)
    const dtype = checkTensors(file, { path, r, modules })
    const fused = new Map<string, Fused>()
    const targets = loraTargets.filter(target => modules.some(it => it.target === target && hasAdapter(file, it)))
    for (let layer = 0; layer < architecture.numLayers; layer++) {
      for (const target of targets)
        fused.set(
          `${layer} ${target}`,
          await fuse(
            file,
            modules.filter(it => it.layer === layer && it.target === target),
          ),
        )
    }
    const rank = r * Math.max(...[...fused.values()].map(({ blocks }) => blocks.length))
    return { lora: { r: rank, alpha: alpha * (rank / r), targets }, ...fusedSource(file, { fused, dtype, r, rank }) }
  } catch (error) {
    await file.close()
    throw error
  }
}

function hasAdapter(file: TensorSource, { module }: PeftModule): boolean {
  return file.tensors.has(peftTensor(module, 'A'))
}

function checkTensors(
  file: TensorSource,
  { path, r, modules }: { path: string; r: number; modules: readonly PeftModule[] },
): Dtype {
  const left = new Map(file.tensors)
  let dtype: Dtype | undefined
  for (const { module, shape } of modules) {
    const [a, b] = (['A', 'B'] as const).map(matrix => peftTensor(module, matrix)) as [string, string]
    if (!left.has(a) && !left.has(b)) continue
    for (const [name, expected] of [[a, [r, shape[1]]] as const, [b, [shape[0], r]] as const]) {
      const info = left.get(name)
      if (info === undefined || `${info.shape}` !== `${expected}`) {
        const found = info === undefined ? 'none' : `[${info.shape}]`
        throw new FormatError({ file: path, expected: `tensor '${name}' of shape [${expected}]`, found })
      }
      dtype ??= info.dtype
      if (info.dtype !== dtype || !isFloatDtype(dtype))
        throw new FormatError({ file: path, expected: `adapters of one type, BF16, F16 or F32`, found: info.dtype })
      left.delete(name)
    }
  }
  const [other] = left.keys()
  if (other !== undefined)
    throw new FormatError({ file: path, expected: "adapters of Megatron's linear layers", found: `'${other}'` })
  if (dtype === undefined) throw new FormatError({ file: path, expected: 'adapters', found: 'none' })
  return dtype
}

async function fuse(file: TensorSource, modules: readonly PeftModule[]): Promise<Fused> {
  const members: { module: PeftModule; block: number }[] = []
  const blocks: string[] = []
  for (const module of modules.filter(it => hasAdapter(file, it))) {
    const a = peftTensor(module.module, 'A')
    let block = 0
    while (block < blocks.length && !(await areEqual(file, blocks[block]!, a))) block++
    if (block === blocks.length) blocks.push(a)
    members.push({ module, block })
  }
  const output = modules.reduce((sum, { shape }) => sum + shape[0], 0)
  return { members, blocks, input: modules[0]!.shape[1], output }
}

async function areEqual(file: TensorSource, a: string, b: string): Promise<boolean> {
  const rows = file.tensors.get(a)!.shape[0]!
  const first = Buffer.from(await file.readRows(a, 0, rows))
  return first.equals(await file.readRows(b, 0, rows))
}

function fusedSource(
  file: TensorSource,
  options: { fused: ReadonlyMap<string, Fused>; dtype: Dtype; r: number; rank: number },
): TensorSource {
  const { fused, dtype, r, rank } = options
  const size = dtypeBytes[dtype]
  const tensors = new Map<string, TensorInfo>()
  const places = new Map<string, { of: Fused; matrix: 'A' | 'B' }>()
  for (const [key, of] of fused) {
    const [layer, target] = key.split(' ') as [string, LoraTarget]
    for (const [matrix, shape] of [['A', [rank, of.input]] as const, ['B', [of.output, rank]] as const]) {
      const name = adapterName(Number(layer), target, matrix)
      tensors.set(name, { name, dtype, shape })
      places.set(name, { of, matrix })
    }
  }
  const readA = async ({ blocks, input }: Fused, start: number, end: number, out: Uint8Array): Promise<void> => {
    for (const [block, name] of blocks.entries()) {
      const [from, to] = [Math.max(start, block * r), Math.min(end, (block + 1) * r)]
      const place = out.subarray((from - start) * input * size, (to - start) * input * size)
      if (from < to) await file.readRows(name, from - block * r, to - block * r, place)
    }
  }
  const readB = async ({ members }: Fused, start: number, end: number, out: Uint8Array): Promise<void> => {
    for (const { module, block } of members) {
      for (const { row, rows, shardRow } of module.rectangles) {
        const [from, to] = [Math.max(start, shardRow), Math.min(end, shardRow + rows)]
        if (from >= to) continue
        const first = row + from - shardRow
        // Not one for all: readings may overlap in time.
        const own = new Uint8Array((to - from) * r * size)
        const bytes = await file.readRows(peftTensor(module.module, 'B'), first, first + to - from, own)
        for (let i = 0; i < to - from; i++)
          out.set(bytes.subarray(i * r * size, (i + 1) * r * size), ((from - start + i) * rank + block * r) * size)
      }
    }
  }
  return {
    tensors,
    close: () => file.close(),
    async readRows(name, start, end, into) {
      const place = places.get(name)
      const shape = tensors.get(name)?.shape
      if (place === undefined || shape === undefined) throw new InputError(`The adapters have no tensor '${name}'.`)
      if (!(0 <= start && start <= end && end <= shape[0]!))
        throw new InputError(`'${name}' has rows 0 to ${shape[0]}, not ${start} to ${end}.`)
      const length = (end - start) * shape[1]! * size
      const out = into === undefined ? new Uint8Array(length) : into.subarray(0, length).fill(0)
      await (place.matrix === 'A' ? readA : readB)(place.of, start, end, out)
      return out
    },
  }
}
