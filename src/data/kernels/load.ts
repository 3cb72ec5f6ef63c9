import { binary } from './encode.generated.ts'

/** Compiles the kernel: once; threads instantiate the same module, and need not warm up code of their own. */
export function compileKernel(): WebAssembly.Module {
  return new WebAssembly.Module(Buffer.from(binary, 'base64'))
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

const pageBytes = 1 << 16

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
