import { arenaStart, scratchBytes } from '../../src/trainer/arena.ts'
import { compileKernels, instantiateKernels, type Kernels } from '../../src/trainer/kernels/load.ts'
import { uniform } from './reference-run.ts'

/** Kernels over a memory of their own. */
export interface KernelMemory {
  readonly kernels: Kernels
  readonly scratch: number
  /** Copies float32 values in (rounded); gives their address. */
  put(values: Iterable<number>): number
  putInts(values: Iterable<number>): number
  take(address: number, count: number): number[]
  takeDoubles(address: number, count: number): number[]
}

export function kernelMemory(numerics: 'reproducible' | 'fast'): KernelMemory {
  const pages = 256
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
  const kernels = instantiateKernels(compileKernels(numerics), memory)
  let end = arenaStart
  const reserve = (bytes: number) => {
    const address = end
    // Not 64: kernels must not need more alignment than four bytes.
    end += Math.ceil(bytes / 8) * 8 + 8
    return address + 4
  }
  const scratch = reserve(scratchBytes(512))
  return {
    kernels,
    scratch,
    put(values) {
      const floats = Float32Array.from(values)
      const address = reserve(floats.byteLength)
      new Float32Array(memory.buffer, address, floats.length).set(floats)
      return address
    },
    putInts(values) {
      const ints = Int32Array.from(values)
      const address = reserve(ints.byteLength)
      new Int32Array(memory.buffer, address, ints.length).set(ints)
      return address
    },
    take: (address, count) => [...new Float32Array(memory.buffer, address, count)],
    takeDoubles: (address, count) =>
      Array.from({ length: count }, (_, i) => new DataView(memory.buffer).getFloat64(address + i * 8, true)),
  }
}

/** `count` numbers in [-scale, scale) that float32 holds exactly. */
export function random(stream: number, count: number, scale = 1): number[] {
  return [...uniform(stream, count)].map(x => x * 2 * scale)
}

/** Derivatives of f at x by central differences in float64. */
export function differences(f: (x: readonly number[]) => number, x: readonly number[]): number[] {
  const step = 2 ** -16
  return x.map((value, i) => (f(x.with(i, value + step)) - f(x.with(i, value - step))) / (2 * step))
}

export function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0)
}

/** Largest difference, relative to the largest expected value, or to 0.1 where all are smaller. */
export function relativeError(found: readonly number[], expected: readonly number[]): number {
  if (found.length !== expected.length) return Infinity
  const largest = Math.max(...expected.map(Math.abs), 0.1)
  return found.reduce((error, x, i) => Math.max(error, Math.abs(x - expected[i]!) / largest), 0)
}
