import { type Arena, scratchBytes } from './arena.ts'
import { instantiateKernels, type Kernels } from './kernels/load.ts'
import { barrier, controlBytes } from './sync.ts'

/** Where the shared numbers hold what a command needs and gives. */
export const places = {
  lossScale: 0,
  learningRate: 1,
  step: 2,
  beta1: 3,
  beta2: 4,
  epsilon: 5,
  weightDecay: 6,
  clipGrad: 7,
  gradNorm: 8,
} as const

/** One of the threads that run the same program, each on its part of the rows or columns. */
export interface Rank {
  readonly index: number
  readonly threads: number
  readonly arena: Arena
  readonly kernels: Kernels
  /** This rank's own working space. */
  readonly scratch: number
  /** Indexed by `places`. */
  readonly numbers: Float64Array
  readonly words: Int32Array
  /** Waits for the other ranks. */
  readonly barrier: () => void
}

/** What the host hands to each worker. */
export interface RankData {
  readonly index: number
  readonly arena: Arena
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
}

/** Sets up a rank inside its thread. */
export function startRank({ index, arena, module, memory }: RankData): Rank {
  const words = new Int32Array(memory.buffer, arena.control, controlBytes / 4)
  const { threads } = arena
  return {
    ...{ index, threads, arena, words },
    kernels: instantiateKernels(module, memory),
    scratch: arena.scratch + index * Math.ceil(scratchBytes(arena.sizes.positions) / 64) * 64,
    numbers: new Float64Array(memory.buffer, arena.numbers, 16),
    barrier: () => barrier(words, threads),
  }
}
