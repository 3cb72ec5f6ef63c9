import { FormatError, InputError } from '../errors.ts'
import type { PickleTensor } from '../formats/pickle-value.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { TorchFile } from '../formats/torch-file.ts'
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

function rowReader(
  tensors: ReadonlyMap<string, TensorInfo>,
  pieces: ReadonlyMap<string, readonly Piece[]>,
): TensorSource['readRows'] {
  let shared = new Uint8Array(0)
  const scratches: Uint8Array[] = []
  return async (name, start, end, into) => {
    const info = tensors.get(name)
    if (info === undefined) throw new InputError(`The checkpoint has no tensor '${name}'.`)
    if (!(0 <= start && start <= end && end <= info.shape[0]!)) {
      throw new InputError(`'${name}' has rows 0 to ${info.shape[0]}, not ${start} to ${end}.`)
    }
    const size = dtypeBytes[info.dtype]
    const rowBytes = (info.shape[1] ?? 1) * size
    const length = (end - start) * rowBytes
    if (into === undefined && shared.length < length) shared = new Uint8Array(length)
    const out = (into ?? shared).subarray(0, length)
    // Not one for all: readings may overlap in time.
    let scratch = scratches.pop() ?? new Uint8Array(0)
    for (const { file, shard, row, rows, column, columns, shardRow, isReplica } of pieces.get(name)!) {
      const from = Math.max(start, row)
      const to = Math.min(end, row + rows)
      if (from >= to) continue
      const range = { start: shardRow + from - row, end: shardRow + to - row }
      const place = out.subarray((from - start) * rowBytes, (to - start) * rowBytes)
      const pieceBytes = columns * size
      if (pieceBytes === rowBytes && !isReplica) {
        await file.readRows(shard, range, place)
        continue
      }
      if (scratch.length < (to - from) * pieceBytes) scratch = new Uint8Array((to - from) * pieceBytes)
      const piece = await file.readRows(shard, range, scratch)
      if (isReplica) {
        if (Buffer.compare(piece, place) !== 0) refuseReplica(file.path, name)
        continue
      }
      for (let i = 0; i < to - from; i++)
        place.set(scratch.subarray(i * pieceBytes, (i + 1) * pieceBytes), i * rowBytes + column * size)
    }
    scratches.push(scratch)
    return out
  }
}

// Each copy gets its own gradient unless the training sums them: then the model has come to have more groups.
function refuseReplica(file: string, name: string): never {
  throw new FormatError({
    file,
    expected: `the copies of a key/value group in '${name}' to be equal on all ranks that hold one`,
    found: 'another value: they were trained apart, and the model has as many groups as ranks now',
  })
}
