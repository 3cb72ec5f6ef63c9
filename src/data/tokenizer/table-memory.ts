import { headBytes, pageBytes, startTableKernel, type TableKernel } from '../kernels/load.ts'
import type { SharedArrays } from './shared-arrays.ts'

/** The memory of a kernel while tables are made in it: they need not be copied there. */
export interface TableMemory extends SharedArrays {
  readonly memory: WebAssembly.Memory
  /** Its addresses are the arrays' `byteOffset`. */
  readonly kernel: TableKernel
  /** The array itself where it is one of these or a part of one, else a copy that is. */
  place(array: Int32Array): Int32Array
  place(array: Uint16Array): Uint16Array
  place(array: Table): Table
}

export type Table = Int32Array | Uint16Array | Uint8Array

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
  function place(array: Int32Array): Int32Array
  function place(array: Uint16Array): Uint16Array
  function place(array: Table): Table
  function place(array: Table): Table {
    if (buffers.has(array.buffer)) return array
    const { length } = array
    const make = array instanceof Int32Array ? arrays.ints : array instanceof Uint16Array ? arrays.units : arrays.bytes
    const placed = make(length)
    placed.set(array)
    return placed
  }
  return { ...arrays, memory, kernel: startTableKernel(memory), place }
}

type ArrayClass<T> = new (buffer: SharedArrayBuffer, at: number, length: number) => T
