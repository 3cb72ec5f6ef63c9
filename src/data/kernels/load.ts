import { binary } from './encode.generated.ts'

let module: WebAssembly.Module | undefined

/** Compiles the kernel: once; threads instantiate the same module, and need not warm up code of their own. */
export function compileKernel(): WebAssembly.Module {
  module ??= new WebAssembly.Module(Buffer.from(binary, 'base64'))
  return module
}

/** The functions of the kernel that make tables; assembly/bpe-file.ts says of what. Addresses are bytes. */
export interface TableKernel {
  readonly tokens: { readonly value: number }
  readonly merges: { readonly value: number }
  scanVocabulary(from: number, pool: number, starts: number, ids: number, taken: number, idLimit: number): number
  indexTokens(pool: number, starts: number, count: number, slots: number, mask: number): number
  scanMerges(from: number, pairs: number, units: number): number
  indexMerges(pairs: number, ranks: number, count: number, slots: number, mask: number): void
}

/** Starts the kernel over a memory only to make tables in it. */
export function startTableKernel(memory: WebAssembly.Memory): TableKernel {
  return new WebAssembly.Instance(compileKernel(), { env: { memory } }).exports as unknown as TableKernel
}

/** The kernel over one memory and in one region of it; what its functions do is said in assembly/. Addresses are bytes. */
export interface Kernel {
  start(header: number, region: number): void
  readonly capacity: { readonly value: number }
  readonly bytesAt: { readonly value: number }
  readonly unitsAt: { readonly value: number }
  readonly lengthsAt: { readonly value: number }
  readonly rows: { readonly value: number }
  regionBytes(): number
  idsAt(): number
  freeAt(): number
  forget(): void
  encodeUnits(count: number): number
  addHostRow(length: number): number
  encodeLines(from: number, to: number, keyLength: number, end: number): number
}

export const pageBytes = 1 << 16
/** Bytes at the beginning of every memory that are the kernel's own. */
export const headBytes = 4096

/**
 * Starts the kernel in a region of its own, of some 40 MB, which takes memory as it is used.
 * @throws RangeError when the memory has no more room.
 */
export function startKernel(
  { module, memory }: { readonly module: WebAssembly.Module; readonly memory: WebAssembly.Memory },
  header: number,
): Kernel {
  const kernel = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel
  const pages = memory.grow(Math.ceil(kernel.regionBytes() / pageBytes))
  kernel.start(header, pages * pageBytes)
  return kernel
}
