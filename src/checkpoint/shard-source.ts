import { FormatError, InputError } from '../errors.ts'
import type { PickleTensor } from '../formats/pickle-value.ts'
import type { RowReader, StoredPiece } from '../formats/row-reader.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { TorchFile } from '../formats/torch-file.ts'
import { rowGatherer } from './gather-rows.ts'
import type { StageWeight } from './stage-weights.ts'
import type { Rectangle } from './weight-plan.ts'

/** A weight and its tensor on every tensor-parallel rank. */
export interface ShardedWeight {
  readonly weight: StageWeight
  readonly shards: readonly { readonly file: TorchFile; readonly tensor: PickleTensor }[]
}

interface Piece extends Rectangle {
  readonly file: TorchFile
  readonly shard: PickleTensor
}

/**
 * The Hugging Face tensors of sharded weights: rows are gathered from the shards when they are read, padding never.
 * Copies of key/value groups are compared then; a FormatError says when they differ.
 */
export function shardSource(weights: readonly ShardedWeight[], close: () => Promise<void>): TensorSource {
  const tensors = new Map<string, TensorInfo>()
  const pieces = new Map<string, Piece[]>()
  for (const { weight, shards } of weights) {
    const { parts, rule, shards: plans } = weight.plan
    const { dtype } = shards[0]!.tensor
    const other = shards.find(shard => shard.tensor.dtype !== dtype)
    if (other !== undefined) {
      const expected = `'${weight.key}' to be ${dtype}, as on rank 0`
      throw new FormatError({ file: other.file.path, expected, found: other.tensor.dtype })
    }
    for (const { name, shape } of parts) {
      tensors.set(name, { name, dtype, shape })
      pieces.set(name, [])
    }
    for (const [rank, plan] of plans.entries()) {
      if (rank > 0 && rule.split === 'replicated') break
      for (const rectangle of plan.rectangles) {
        if (rectangle.copies !== undefined) continue
        pieces.get(rectangle.tensor)!.push({ ...rectangle, file: shards[rank]!.file, shard: shards[rank]!.tensor })
      }
    }
  }
  return { tensors, close, readRows: rowReader(tensors, pieces) }
}

function rowReader(tensors: ReadonlyMap<string, TensorInfo>, pieces: ReadonlyMap<string, readonly Piece[]>): RowReader {
  let shared = new Uint8Array(0)
  const gather = rowGatherer()
  const storedPieces = (name: string) =>
    pieces.get(name)!.map(({ file, shard, shardRow, ...range }): StoredPiece => {
      const { path, fd, offset } = file.place(shard)
      return { ...range, place: { path, fd, offset: offset + shardRow * range.columns * dtypeBytes[shard.dtype] } }
    })
  const readRows: RowReader = async (name, start, end, into) => {
    const info = tensors.get(name)
    if (info === undefined) throw new InputError(`The checkpoint has no tensor '${name}'.`)
    if (!(0 <= start && start <= end && end <= info.shape[0]!)) {
      throw new InputError(`'${name}' has rows 0 to ${info.shape[0]}, not ${start} to ${end}.`)
    }
    const length = (end - start) * (info.shape[1] ?? 1) * dtypeBytes[info.dtype]
    if (into === undefined && shared.length < length) shared = new Uint8Array(length)
    const out = (into ?? shared).subarray(0, length)
    await gather({ tensor: info, pieces: storedPieces(name), start, end, out })
    return out
  }
  return Object.assign(readRows, { pieces: storedPieces })
}
