import type { Architecture } from '../models/architecture.ts'
import type { LoraTarget } from '../models/lora-rules.ts'

/** Adapters of a LoRA run, on Megatron's fused linears: y = x·Wᵀ + (alpha / r)·(x·Aᵀ)·Bᵀ. */
export interface LoraOptions {
  /** Rank of the adapters. */
  readonly r: number
  readonly alpha: number
  readonly targets: readonly LoraTarget[]
}

export interface EngineOptions {
  readonly architecture: Architecture
  readonly seqLength: number
  readonly microBatchSize: number
  /** Worker threads; results do not depend on it. Default: the smaller of 4 and the machine's parallelism. */
  readonly threads?: number
  /** `reproducible` gives the same bits on every machine; `fast` fuses multiply and add where the processor can. Default `reproducible`. */
  readonly numerics?: 'reproducible' | 'fast'
  /** Train only these adapters; every other weight is frozen. */
  readonly lora?: LoraOptions
}
