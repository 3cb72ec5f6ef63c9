import { CancelledError } from '../errors.ts'
import { convertFloats } from '../formats/float-dtype.ts'
import { type Dtype, dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
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

/** Room for a block of `length` bytes. */
export function blockRoom(scratch: Scratch, length: number): Uint8Array {
  if (scratch.block.length < length) {
    const both = new Uint8Array(2 * Math.max(length, blockBytes))
    scratch.block = both.subarray(0, both.length / 2)
    scratch.gathered = both.subarray(both.length / 2)
  }
  return scratch.block.subarray(0, length)
}

/** Rows of a tensor that are read at once, and what the ranks of a section store of them. */
export interface Block {
  readonly tensor: TensorInfo
  readonly start: number
  readonly end: number
  readonly length: number
  readonly cuts: readonly BlockCut[]
}

/** Columns that a rank stores, `copies` times. */
interface BlockCut extends Pick<Rectangle, 'column' | 'columns' | 'copies'> {
  readonly rank: number
}

/**
 * What is read, one after another, to fill the shards of a section, every shard from its first byte to its last: blocks
 * of 2 MiB (or one row, where rows are longer). Ranks share one reading.
 */
export function sectionBlocks({ shards }: ShardSection, tensors: ReadonlyMap<string, TensorInfo>): readonly Block[] {
  return shards[0]!.rectangles.flatMap(({ tensor: name, row, rows }, i) => {
    const tensor = tensors.get(name)!
    const rowBytes = (tensor.shape[1] ?? 1) * dtypeBytes[tensor.dtype]
    const step = Math.max(1, Math.floor(blockBytes / rowBytes))
    const cuts = shards.map(({ rank, rectangles }): BlockCut => ({ rank, ...rectangles[i]! }))
    return Array.from({ length: Math.ceil(rows / step) }, (_, n): Block => {
      const start = row + n * step
      const end = Math.min(start + step, row + rows)
      return { tensor, start, end, length: (end - start) * rowBytes, cuts }
    })
  })
}

/** Receives the next bytes of a section on a tensor-parallel rank. */
export type ShardSink = (rank: number, bytes: Uint8Array) => Promise<void> | void

/** Streams a section of a weight from the Hugging Face tensors of `source` to the shards of its ranks. */
export async function fillShards(
  section: ShardSection,
  source: Pick<TensorSource, 'tensors' | 'readRows'>,
  options: { dtype: Dtype; sink: ShardSink; scratch: Scratch; throwIfCancelled?: () => void },
): Promise<void> {
  const { scratch, dtype, sink } = options
  for (const block of sectionBlocks(section, source.tensors)) {
    options.throwIfCancelled?.()
    const { tensor, start, end, length, cuts } = block
    const bytes = await source.readRows(tensor.name, start, end, blockRoom(scratch, length))
    for (const cut of cuts) {
      const stored = storedBytes(bytes, cut, { tensor, dtype, scratch })
      for (let copy = 0; copy < (cut.copies ?? 1); copy++) await sink(cut.rank, stored)
    }
  }
}

/** What a rank stores of a block: its columns, as the stored type; valid until the next call. */
export function storedBytes(
  bytes: Uint8Array,
  { column, columns }: BlockCut,
  { tensor, dtype: to, scratch }: { tensor: TensorInfo; dtype: Dtype; scratch: Scratch },
): Uint8Array {
  const { dtype: from, shape } = tensor
  const width = shape[1] ?? 1
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
