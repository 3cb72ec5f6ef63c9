import { setFlagsFromString } from 'node:v8'
import { binary as fma } from './fma.generated.ts'
import { binary as simd } from './simd.generated.ts'

/** Compiles the kernels: once, in the host; workers instantiate the same module. `fast` falls back to `reproducible`. */
export function compileKernels(numerics: 'reproducible' | 'fast'): WebAssembly.Module {
  const fused = Buffer.from(fma, 'base64')
  if (numerics === 'fast' && relaxedSimdWorks(fused)) return new WebAssembly.Module(fused)
  return new WebAssembly.Module(Buffer.from(simd, 'base64'))
}

function relaxedSimdWorks(bytes: Buffer<ArrayBuffer>): boolean {
  if (WebAssembly.validate(bytes)) return true
  // Later versions have it on, and print a warning about a flag that they no longer know.
  if (!/^2[01]\./.test(process.versions.node)) return false
  setFlagsFromString('--experimental-wasm-relaxed-simd')
  return WebAssembly.validate(bytes)
}

/** The kernels over one shared memory. All addresses are byte offsets into it; counts and strides are in floats. */
export interface Kernels {
  heapBase(): number
  scratchBytes(positions: number): number
  gemm(
    ...args: [
      ...[m: number, n: number, k: number],
      ...[a: number, aRow: number, aColumn: number],
      ...[b: number, bRow: number, bColumn: number],
      ...[c: number, cRow: number, alpha: number, accumulate: number, scratch: number],
    ]
  ): void
  attention(
    ...args: [
      ...[q: number, k: number, v: number, width: number, out: number, outWidth: number, logSum: number],
      ...[positions: number, headDim: number, scale: number, scratch: number],
    ]
  ): void
  attentionBackward(
    ...args: [
      ...[q: number, k: number, v: number, width: number, out: number],
      ...[dOut: number, dq: number, dk: number, dv: number, outWidth: number, logSum: number],
      ...[positions: number, headDim: number, scale: number, scratch: number],
    ]
  ): void
  ropeTables(cos: number, sin: number, positions: number, half: number, base: number): void
  rope(
    ...args: [
      ...[x: number, cos: number, sin: number, row: number, rows: number],
      ...[width: number, positions: number, heads: number, headDim: number],
    ]
  ): void
  ropeBackward(
    ...args: [
      ...[dq: number, dk: number, dv: number, dqkv: number, cos: number, sin: number],
      ...[row: number, rows: number, positions: number, heads: number, groups: number, headDim: number],
    ]
  ): void
  rmsNorm(x: number, weight: number, y: number, inverse: number, rows: number, n: number, epsilon: number): void
  rmsNormBackward(
    ...args: [
      ...[dy: number, x: number, weight: number, inverse: number],
      ...[dx: number, rows: number, n: number, accumulate: number],
    ]
  ): void
  rmsNormWeightBackward(
    ...args: [
      ...[dy: number, x: number, inverse: number, dWeight: number],
      ...[rows: number, n: number, first: number, last: number],
    ]
  ): void
  addBias(y: number, bias: number, rows: number, n: number): void
  sumRows(y: number, sum: number, rows: number, n: number, first: number, last: number): void
  swiglu(gateUp: number, y: number, rows: number, n: number): void
  swigluBackward(gateUp: number, y: number, rows: number, n: number): void
  embed(tokens: number, table: number, x: number, rows: number, n: number): void
  embedBackward(
    ...args: [tokens: number, dx: number, dTable: number, rows: number, n: number, first: number, last: number]
  ): void
  crossEntropy(logits: number, labels: number, losses: number, rows: number, n: number, scale: number): void
  sumSquares(x: number, n: number): number
  adamw(
    ...args: [
      ...[w: number, g: number, m: number, v: number, n: number, clip: number, learningRate: number],
      ...[beta1: number, beta2: number, epsilon: number, weightDecay: number, step: number],
    ]
  ): void
  zero(x: number, n: number): void
  copy(to: number, from: number, n: number): void
}

/** Binds the compiled kernels to a memory. They write their own tables below `heapBase()`, nothing else of their own. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels
}
