import type { Architecture } from '../models/architecture.ts'

/** Adapters of a LoRA run, on Megatron's fused linears: y = x·Wᵀ + (alpha / r)·(x·Aᵀ)·Bᵀ. */
export interface LoraOptions {
  /** Rank of the adapters. */
  readonly r: number
  readonly alpha: number
  readonly targets: readonly LoraTarget[]
}

export type LoraTarget = 'linear_qkv' | 'linear_proj' | 'linear_fc1' | 'linear_fc2'

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

/**
 * One tensor of the model, as views into the engine's shared memory: write to load, read to save, between calls only.
 *
 * Base weights have Hugging Face's names and row order. Adapters are `layers.{i}.{target}.lora_A.weight` [r, in] and
 * `….lora_B.weight` [out, r], with Megatron's rows at tp 1 (qkv fused per query group, fc1 gate then up).
 * All zero in a new engine, except norm weights, which are one.
 */
export interface Parameter {
  readonly name: string
  readonly shape: readonly number[]
  readonly trainable: boolean
  /** Whether weight decay applies; as in Megatron not to vectors (norms, biases). */
  readonly decay: boolean
  readonly weight: Float32Array
  /** What `accumulate` added since the last update; absent when frozen, like both moments of AdamW. */
  readonly gradient?: Float32Array
  readonly firstMoment?: Float32Array
  readonly secondMoment?: Float32Array
}

export interface UpdateOptions {
  readonly learningRate: number
  /** 1 for the first update: AdamW's bias correction. */
  readonly step: number
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
  /** Largest global L2 norm of the gradients; 0 leaves them as they are. */
  readonly clipGrad: number
}

/** A model in training: worker threads over one shared memory. One call at a time; close it when done. */
export interface Engine {
  readonly parameters: readonly Parameter[]
  /** Size of the shared memory in bytes. */
  readonly memoryBytes: number
  /**
   * Runs one micro-batch forward and backward and adds its gradients, times `scale` (default 1), to those held.
   * `tokens` and `labels` are [microBatchSize, seqLength]; labels are already shifted; -100 is not counted.
   * The loss is the mean over counted labels. With none counted nothing is added, and loss and count are 0.
   * @throws InputError on a wrong length or an id outside the vocabulary, JobError when a worker fails.
   */
  accumulate(
    tokens: Int32Array,
    labels: Int32Array,
    options?: { readonly scale?: number },
  ): Promise<{ loss: number; count: number }>
  /** Forward only. The loss is the sum over counted labels. */
  evaluate(tokens: Int32Array, labels: Int32Array): Promise<{ loss: number; count: number }>
  /**
   * Clips the held gradients by their global norm (Megatron: clip / (norm + 1e-6) where below 1), applies AdamW with
   * decoupled weight decay, and zeroes them. A norm that is not finite changes no weight and is reported as skipped.
   */
  update(options: UpdateOptions): Promise<{ gradNorm: number; skipped: boolean }>
  /** Ends the workers, also in the middle of a call, which is then rejected. */
  close(): Promise<void>
}

/**
 * Starts the workers of an engine for one model and batch shape.
 * @throws InputError on impossible options, LayoutError when the memory does not fit (the message says what to try).
 */
export declare function createEngine(options: EngineOptions): Promise<Engine>
