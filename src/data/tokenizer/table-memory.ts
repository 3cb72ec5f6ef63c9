import { headBytes, pageBytes, startTableKernel, type TableKernel } from '../kernels/load.ts'
import type { SharedArrays } from './shared-arrays.ts'

/** The memory of a kernel while tables are made in it: they need not be copied there. */
export interface TableMemory extends SharedArrays {
  readonly memory: WebAssembly.Memory
  /** Its addresses are the arrays' `byteOffset`. */
  readonly kernel: TableKernel
  /** Whether an array is one of these, or a part of one. */
  has(array: ArrayBufferView): boolean
  /** The array itself where it is one of these, else a copy that is. */
  place<T extends Int32Array | Uint16Array>(array: T): T
}

/** Zeros behind each array, which the kernel may read, and write to, in passing. */
const slackBytes = 64

/**
 * Arrays take memory as they are written to, not before; none may be made any more once encoders work in it. They throw
 * a RangeError beyond 4 GiB.
 */
export function createTableMemory(): TableMemory {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 ** 32 / pageBytes, shared: true })
  const buffers = new Set<unknown>()
  let end = headBytes
  const reserve = (bytes: number) => {
    const at = end
    const stop = at + 64 * Math.ceil((bytes + slackBytes) / 64)
    const missing = stop - memory.buffer.byteLength
    if (missing > 0) memory.grow(Math.ceil(missing / pageBytes))
    buffers.add(memory.buffer)
    end = stop
    return at
  }
  const arrays: SharedArrays = {
    ints: length => arrayAt(Int32Array, reserve(4 * length), length),
    units: length => arrayAt(Uint16Array, reserve(2 * length), length),
    bytes: length => arrayAt(Uint8Array, reserve(length), length),
  }
  // What is reserved first may make the buffer another one.
  function arrayAt<T>(Kind: ArrayClass<T>, at: number, length: number): T {
    return new Kind(memory.buffer as unknown as SharedArrayBuffer, at, length)
  }
  const has = ({ buffer }: ArrayBufferView) => buffers.has(buffer)
  return {
    ...arrays,
    memory,
    kernel: startTableKernel(memory),
    has,
    place(array) {
      if (has(array)) return array
      const placed = (
        array instanceof Int32Array ? arrays.ints(array.length) : arrays.units(array.length)
      ) as typeof array
      placed.set(array)
      return placed
    },
  }
}

type ArrayClass<T> = new (buffer: SharedArrayBuffer, at: number, length: number) => T
