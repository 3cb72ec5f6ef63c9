import { type Kernel, startKernel } from '../kernels/load.ts'
import { type EncodingBuffers, reserveIds } from './encoding-buffers.ts'
import type { KernelImage } from './kernel-image.ts'
import type { PreTokenizer } from './pre-tokenizer.ts'
import type { SectionEncoder } from './section-encoder.ts'

/** Lines of JSON objects, of which one column is to be encoded. */
export interface JsonLines {
  /** Whole lines; the last one may lack its end. */
  readonly bytes: Buffer
  readonly key: string
  /** Id to put behind the ids of each text. */
  readonly end?: number | undefined
  /**
   * Encodes the line from byte `start` to `stop`, which is not plain: gives the ids, undefined for an empty text, or
   * 'bad' for a line that is no row with that column.
   */
  encodeLine(start: number, stop: number): Int32Array | undefined | 'bad'
}

/** What the rows of some lines are encoded to. Views that hold until lines are encoded again. */
export interface EncodedLines {
  /** Ids of all rows, one row behind the other. */
  readonly ids: Int32Array
  /** Number of ids of each row; -1 for one of an empty text. */
  readonly lengths: Int32Array
}

/** Undefined when a line is bad, or the lines are too long: then nothing is said of any of them. */
export type LineEncoder = (lines: JsonLines) => EncodedLines | undefined

/** Encoders in WebAssembly that share a cache. */
export interface KernelEncoder {
  readonly encodeSection: SectionEncoder
  readonly encodeLines?: LineEncoder | undefined
}

/**
 * Encodes with the kernel; `slow` encodes the sections that it leaves, and is made when there is one. Undefined when
 * there is no memory for one more thread.
 */
export function createKernelEncoder(
  image: KernelImage,
  { buffers, preTokenizer, slow }: { buffers: EncodingBuffers; preTokenizer: PreTokenizer; slow: () => SectionEncoder },
): KernelEncoder | undefined {
  const kernel = kernelOf(image)
  if (!kernel) return undefined
  const memory = image.memory.buffer
  const capacity = kernel.capacity.value
  const units = Buffer.from(memory, address(kernel.unitsAt.value), 2 * capacity)
  const addPrefixSpace = preTokenizer.kind === 'byteLevel' && preTokenizer.addPrefixSpace
  return {
    encodeSection(section) {
      const text = addPrefixSpace && !section.text.startsWith(' ') ? ` ${section.text}` : section.text
      const length = text.length > capacity / 4 ? -1 : encodeUnits(kernel, units, text)
      if (length < 0) return slow()(section)
      reserveIds(buffers, length)
      buffers.ids.set(new Int32Array(memory, address(kernel.freeAt()), length), buffers.length)
      buffers.length += length
    },
    encodeLines: image.readsLines ? createLineEncoder(kernel, memory) : undefined,
  }
}

/** The kernels that this thread has started: tokenizers of one image share one, and with it its caches. */
const kernels = new WeakMap<KernelImage, Kernel>()

function kernelOf(image: KernelImage): Kernel | undefined {
  try {
    const kernel = kernels.get(image) ?? startKernel(image, image.header)
    kernels.set(image, kernel)
    return kernel
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** WebAssembly gives addresses from 2 GiB on as negative numbers. */
function address(value: number): number {
  return value >>> 0
}

function encodeUnits(kernel: Kernel, units: Buffer, text: string): number {
  units.write(text, 'utf16le')
  return kernel.encodeUnits(text.length)
}

function createLineEncoder(kernel: Kernel, memory: SharedArrayBuffer): LineEncoder {
  const capacity = kernel.capacity.value
  const room = Buffer.from(memory, address(kernel.bytesAt.value), capacity)
  return ({ bytes, key, end = -1, encodeLine }) => {
    const name = Buffer.from(key)
    const stop = bytes.length
    if (stop + 1 + name.length > capacity) return undefined
    kernel.forget()
    bytes.copy(room)
    room[stop] = 0x0a
    name.copy(room, stop + 1)
    for (let at = 0; at < stop; ) {
      at = kernel.encodeLines(at, stop, name.length, end)
      if (at >= stop) break
      const newline = bytes.indexOf(0x0a, at)
      const lineEnd = newline < 0 ? stop : newline
      const row = encodeLine(at, lineEnd)
      if (row === 'bad') return undefined
      const ids = kernel.addHostRow(row?.length ?? -1)
      if (ids === 0) return undefined
      if (row) new Int32Array(memory, address(ids), row.length).set(row)
      at = lineEnd + 1
    }
    const first = address(kernel.idsAt())
    return {
      ids: new Int32Array(memory, first, (address(kernel.freeAt()) - first) / 4),
      lengths: new Int32Array(memory, address(kernel.lengthsAt.value), kernel.rows.value),
    }
  }
}
