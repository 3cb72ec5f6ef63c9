import { rm } from 'node:fs/promises'
import {
  dictEntries,
  type NewTensor,
  type PickleNamespace,
  type PickleTensor,
  type PickleValue,
} from '../../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../../src/formats/torch-file.ts'
import { createTorchFile, planTorchFile } from '../../../src/formats/torch-writer.ts'

/** A weight of a shard, to be changed. */
export interface Weight {
  readonly tensor: NewTensor
  bytes: Uint8Array
}

/** What a shard holds, to be changed: `weights` by their keys joined with dots, the top-level dict, and `args`. */
export interface ShardContent {
  readonly weights: Map<string, Weight>
  readonly top: Map<PickleValue, PickleValue>
  readonly args: Map<string, PickleValue>
}

/** Writes a shard again after `edit`: a sound file whose CRC-32s are right, with other contents. */
export async function rewriteShard(path: string, edit: (content: ShardContent) => void): Promise<void> {
  const file = await openTorchFile(path)
  const top = new Map(file.value as ReadonlyMap<PickleValue, PickleValue>)
  const args = new Map((top.get('args') as PickleNamespace).fields)
  const weights = new Map<string, Weight>()
  const read = async (entries: ReadonlyMap<PickleValue, PickleValue>, prefix: string): Promise<void> => {
    for (const [key, value] of entries) {
      const below = dictEntries(value)
      if (below !== undefined) await read(below, `${prefix}${key}\0`)
      else if (value !== null) {
        const tensor = value as PickleTensor
        const bytes = await file.readRows(tensor, { start: 0, end: tensor.shape[0]! })
        const { dtype, shape } = tensor
        weights.set(`${prefix}${key}`, { tensor: { type: 'new-tensor', dtype, shape }, bytes: Uint8Array.from(bytes) })
      }
    }
  }
  const models = [...top.keys()].filter(key => /^model\d*$/.test(String(key)))
  for (const key of models) await read(dictEntries(top.get(key))!, `${String(key)}\0`)
  await file.close()
  edit({ weights, top, args })
  top.set('args', { type: 'namespace', fields: args })
  for (const key of models) if (top.has(key)) top.set(key, new Map())
  for (const [path, { tensor }] of weights) {
    const keys = path.split('\0')
    let at = top
    for (const key of keys.slice(0, -1)) {
      if (!at.has(key)) at.set(key, new Map())
      at = at.get(key) as Map<PickleValue, PickleValue>
    }
    at.set(keys.at(-1)!, tensor)
  }
  await rm(path)
  const writer = await createTorchFile(path, planTorchFile(top, { root: 'model_optim_rng' }))
  for (const { tensor, bytes } of weights.values()) await writer.write(tensor, bytes)
  await writer.finish()
}

/** The weight whose key has these parts in it. */
export function weightOf({ weights }: ShardContent, ...parts: readonly string[]): Weight {
  for (const [key, weight] of weights) if (parts.every(part => key.includes(part))) return weight
  throw new Error(`No weight like ${parts.join(' ')}.`)
}

/** The rows of a weight, each a copy. */
export function rowsOf({ tensor, bytes }: Weight): Uint8Array[] {
  const length = bytes.length / tensor.shape[0]!
  return Array.from({ length: tensor.shape[0]! }, (_, i) => bytes.slice(i * length, (i + 1) * length))
}

/** Puts a weight together from rows. */
export function setRows(weight: Weight, rows: readonly Uint8Array[]): void {
  weight.bytes = Uint8Array.from(Buffer.concat(rows))
}
