import { CancelledError } from '../errors.ts'
import { convertFloats } from '../formats/float-dtype.ts'
import { type Dtype, dtypeBytes, type TensorSource } from '../formats/tensor.ts'
import type { Rectangle, WeightPlan } from './weight-plan.ts'

/** Bytes that are read at once: large enough for the disk, small enough for the processor's cache. */
export const blockBytes = 2 * 2 ** 20

/** Tensors that are copied at a time: while one waits for the disk, another is summed. */
export const copyLanes = 4

/** What long copies report to and stop for. */
export interface CopyOptions {
  /** Whether files are flushed to the disk before they appear. Default true; without it a power cut may cost them. */
  readonly flush?: boolean | undefined
  /**
   * Goes on after the files that a killed writing of the same plan finished. Only for a target of one's own (a step's
   * `workDir`) and a source that never changes. Default false.
   */
  readonly resume?: boolean | undefined
  readonly signal?: AbortSignal | undefined
  /** Called after every block with the bytes written so far and the bytes to write. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Throws CancelledError when the signal is aborted. */
export function checkCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new CancelledError(`${what} was cancelled.`, { cause: signal.reason })
}

/** Buffers of one lane. */
export interface Scratch {
  block: Uint8Array
  gathered: Uint8Array
  converted: Uint8Array
}

/** Does `work` for every item, `copyLanes` at a time, and ends when all have ended: with the first error, if any. */
export async function inLanes<T>(
  items: Iterable<T>,
  work: (item: T, scratch: Scratch) => Promise<void>,
): Promise<void> {
  const rest = items[Symbol.iterator]()
  let failure: { readonly error: unknown } | undefined
  const lane = async (): Promise<void> => {
    const scratch = { block: new Uint8Array(0), gathered: new Uint8Array(0), converted: new Uint8Array(0) }
    for (let next = rest.next(); !next.done && !failure; next = rest.next())
      await work(next.value, scratch).catch(error => {
        failure ??= { error }
      })
  }
  await Promise.all(Array.from({ length: copyLanes }, lane))
  if (failure) throw failure.error
}

/** Receives the next bytes of a weight's shard on a tensor-parallel rank. */
export type ShardSink = (rank: number, bytes: Uint8Array) => Promise<void>

/**
 * Streams one weight from the Hugging Face tensors of `source` to the shards of all ranks, every shard from its first
 * byte to its last, in blocks of 2 MiB (or one row, where rows are longer). Ranks that need the same rows (columns of
 * them, or a copy) share one reading.
 */
export async function fillShards(
  plan: WeightPlan,
  source: TensorSource,
  options: { dtype: Dtype; sink: ShardSink; scratch: Scratch; throwIfCancelled: () => void },
): Promise<void> {
  const { scratch } = options
  const ranks = plan.shards.map((_, rank) => rank)
  const isShared = plan.rule.split === 'row' || plan.rule.split === 'replicated'
  for (const group of isShared ? [ranks] : ranks.map(rank => [rank])) {
    for (const [i, { tensor, row, rows, copies = 1 }] of plan.shards[group[0]!]!.rectangles.entries()) {
      const { dtype: from, shape } = source.tensors.get(tensor)!
      const width = shape[1] ?? 1
      const step = Math.max(1, Math.floor(blockBytes / (width * dtypeBytes[from])))
      for (let start = row; start < row + rows; start += step) {
        options.throwIfCancelled()
        const end = Math.min(start + step, row + rows)
        const length = (end - start) * width * dtypeBytes[from]
        if (scratch.block.length < length) scratch.block = new Uint8Array(Math.max(length, blockBytes))
        const bytes = await source.readRows(tensor, start, end, scratch.block)
        for (const rank of group) {
          const piece = cutColumns(bytes, plan.shards[rank]!.rectangles[i]!, { width, from, scratch })
          const stored = convert(piece, { from, to: options.dtype, scratch })
          for (let copy = 0; copy < copies; copy++) await options.sink(rank, stored)
        }
      }
    }
  }
}

function cutColumns(
  bytes: Uint8Array,
  { column, columns }: Rectangle,
  { width, from, scratch }: { width: number; from: Dtype; scratch: Scratch },
): Uint8Array {
  if (columns === width) return bytes
  const size = dtypeBytes[from]
  const rows = bytes.length / (width * size)
  const length = rows * columns * size
  if (scratch.gathered.length < length) scratch.gathered = new Uint8Array(length)
  for (let row = 0; row < rows; row++) {
    const start = (row * width + column) * size
    scratch.gathered.set(bytes.subarray(start, start + columns * size), row * columns * size)
  }
  return scratch.gathered.subarray(0, length)
}

/** The same numbers in type `to`; in a buffer of `scratch` where that is another. */
export function convert(
  bytes: Uint8Array,
  { from, to, scratch }: { from: Dtype; to: Dtype; scratch: Scratch },
): Uint8Array {
  if (from === to) return bytes
  const length = (bytes.length / dtypeBytes[from]) * dtypeBytes[to]
  if (scratch.converted.length < length) scratch.converted = new Uint8Array(length)
  return convertFloats(bytes, { from, to }, scratch.converted)
}
