import { CancelledError } from '../errors.ts'
import { convertFloats } from '../formats/float-dtype.ts'
import { type Dtype, dtypeBytes, type TensorSource } from '../formats/tensor.ts'
import { copyRows } from './copy-rows.ts'
import type { ShardSection } from './shard-sections.ts'
import type { Rectangle } from './weight-plan.ts'

/** Bytes that are read at once: large enough for the disk, small enough for the processor's cache. */
export const blockBytes = 2 * 2 ** 20

/** What long copies report to and stop for. */
export interface CopyOptions {
  /** Whether files are flushed to the disk before they appear. Default true; without it a power cut may cost them. */
  readonly flush?: boolean | undefined
  /**
   * Goes on after the files that a killed writing of the same plan finished. Only for a target of one's own (a step's
   * `workDir`) and a source that never changes. Default false.
   */
  readonly resume?: boolean | undefined
  /**
   * Threads that copy, where the source's tensors lie in files as they are. Default: one for each processor, at most
   * four, and this thread alone below 1 GB.
   */
  readonly workers?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Called at least every 32 MiB with the bytes written so far and the bytes to write. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Throws CancelledError when the signal is aborted. */
export function checkCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw cancelled(signal, what)
}

/** The error of work that an aborted signal ended. */
export function cancelled(signal: AbortSignal, what: string): CancelledError {
  return new CancelledError(`${what} was cancelled.`, { cause: signal.reason })
}

/** Buffers that a copy uses again and again; the first two are as long as each other, and parts of one. */
export interface Scratch {
  block: Uint8Array
  gathered: Uint8Array
  converted: Uint8Array
}

/** Buffers that grow when they are used. */
export function emptyScratch(): Scratch {
  return { block: new Uint8Array(0), gathered: new Uint8Array(0), converted: new Uint8Array(0) }
}

function growBlock(scratch: Scratch, length: number): void {
  const both = new Uint8Array(2 * Math.max(length, blockBytes))
  scratch.block = both.subarray(0, both.length / 2)
  scratch.gathered = both.subarray(both.length / 2)
}

/** Receives the next bytes of a section on a tensor-parallel rank. */
export type ShardSink = (rank: number, bytes: Uint8Array) => Promise<void> | void

/**
 * Streams a section of a weight from the Hugging Face tensors of `source` to the shards of its ranks, every shard from
 * its first byte to its last, in blocks of 2 MiB (or one row, where rows are longer). Ranks share one reading.
 */
export async function fillShards(
  { shards }: ShardSection,
  source: Pick<TensorSource, 'tensors' | 'readRows'>,
  options: { dtype: Dtype; sink: ShardSink; scratch: Scratch; throwIfCancelled?: () => void },
): Promise<void> {
  const { scratch, dtype: to, sink } = options
  for (const [i, { tensor, row, rows, copies = 1 }] of shards[0]!.rectangles.entries()) {
    const { dtype: from, shape } = source.tensors.get(tensor)!
    const width = shape[1] ?? 1
    const step = Math.max(1, Math.floor(blockBytes / (width * dtypeBytes[from])))
    for (let start = row; start < row + rows; start += step) {
      options.throwIfCancelled?.()
      const end = Math.min(start + step, row + rows)
      const length = (end - start) * width * dtypeBytes[from]
      if (scratch.block.length < length) growBlock(scratch, length)
      const bytes = await source.readRows(tensor, start, end, scratch.block.subarray(0, length))
      for (const { rank, rectangles } of shards) {
        const stored = storedBytes(bytes, rectangles[i]!, { width, from, to, scratch })
        for (let copy = 0; copy < copies; copy++) await sink(rank, stored)
      }
    }
  }
}

function storedBytes(
  bytes: Uint8Array,
  { column, columns }: Rectangle,
  { width, from, to, scratch }: { width: number; from: Dtype; to: Dtype; scratch: Scratch },
): Uint8Array {
  const cut = columns === width ? bytes : cutColumns(bytes, { column, columns, width, from, scratch })
  return from === to ? cut : convert(cut, { from, to, scratch })
}

function cutColumns(
  bytes: Uint8Array,
  options: { column: number; columns: number; width: number; from: Dtype; scratch: Scratch },
): Uint8Array {
  const { column, columns, width, from, scratch } = options
  const size = dtypeBytes[from]
  const rows = bytes.length / (width * size)
  const length = columns * size
  copyRows(bytes.subarray(column * size), scratch.gathered, { rows, length, fromStep: width * size, toStep: length })
  return scratch.gathered.subarray(0, rows * length)
}

function convert(bytes: Uint8Array, { from, to, scratch }: { from: Dtype; to: Dtype; scratch: Scratch }): Uint8Array {
  const length = (bytes.length / dtypeBytes[from]) * dtypeBytes[to]
  if (scratch.converted.length < length) scratch.converted = new Uint8Array(length)
  return convertFloats(bytes, { from, to }, scratch.converted)
}
