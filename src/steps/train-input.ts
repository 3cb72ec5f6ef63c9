import { z } from 'zod'
import { WatchPolicy } from '../ascendspeed/watch-policy.ts'
import { HfModel, MegatronCheckpoint, MegatronDataset } from './artifacts.ts'
import { toolchainFields } from './toolchain/toolchain-fields.ts'

const count = z.number().int().nonnegative()
const size = z.number().int().positive()
const share = z.number().min(0).max(1)

export const TrainInput = z.object({
  data: MegatronDataset,
  /** Data to measure on, never trained on. */
  validation: MegatronDataset.optional(),
  init: MegatronCheckpoint,
  /** The folder with the tokenizer's files; a toolchain needs it, the embedded trainer does not read it. */
  tokenizer: HfModel.optional(),
  /**
   * Whether `init` gives weights alone, and the training begins with iteration 1; default true. With `false` it goes on
   * where `init` is: with its iteration, which counts among `trainIters`, optimizer and schedule.
   */
  finetune: z.boolean().optional(),
  /** Layout of the training; default: the checkpoint's. Where it is another, the plan reshards `init` first. */
  parallel: z
    .strictObject({
      ...{ tp: size.optional(), pp: size.optional() },
      /** Context parallel size; default 1. With a toolchain and Megatron core's models only. */
      cp: size.optional(),
      /** Layers of each stage, where they are not equal shares. */
      layersPerStage: z.array(size).readonly().optional(),
      /** Layers of a virtual stage; absent: none, or as in `init` while `pp` is the same. */
      layersPerVirtualStage: size.optional(),
    })
    .optional(),
  /** Activations that are computed again instead of kept: attention's (`selective`), whole layers' (`full`); default none. */
  recompute: z.enum(['none', 'selective', 'full']).optional(),
  /** Layers of each stage (of each chunk, with virtual stages) that `full` computes again; default all. */
  recomputeNumLayers: size.optional(),
  /** Whether replicas share out the optimizer's state; default false. */
  distributedOptimizer: z.boolean().optional(),
  nodes: size.default(1),
  /** NPUs of each node; default: as many as one model replica needs. */
  devicesPerNode: size.optional(),
  seqLength: size,
  /** Longest sequence that the model may take; default: its own. RoPE goes on beyond what the model was made for. */
  maxPositionEmbeddings: size.optional(),
  microBatchSize: size.default(1),
  globalBatchSize: size,
  /** Passes over the data, as the decimal written; default 1. Iterations follow from what preprocessing kept. */
  epochs: z.number().positive().optional(),
  /** Iterations, instead of `epochs`. */
  trainIters: size.optional(),
  lr: z.number().positive(),
  /** Default 0. */
  minLr: z.number().min(0).default(0),
  lrDecayStyle: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
  /** Iterations until the rate is minLr; default: all. */
  lrDecayIters: size.optional(),
  /** Share of the decay iterations that warm up; default 0.01, as in ModelLink's example scripts. */
  lrWarmupFraction: share.optional(),
  /** Iterations that warm up, instead of `lrWarmupFraction`. */
  lrWarmupIters: count.optional(),
  /** Defaults of these four: ModelLink's example scripts. */
  weightDecay: z.number().min(0).default(0.1),
  clipGrad: z.number().min(0).default(1),
  adamBeta1: share.default(0.9),
  adamBeta2: share.default(0.95),
  /** Default 1234, Megatron's. */
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .default(1234),
  /** Stored type of the shards; default bf16. */
  dtype: z.enum(['bf16', 'fp16', 'fp32']).default('bf16'),
  /** Iterations between checkpoints; default: a tenth of all, at least 10. */
  saveInterval: size.optional(),
  logInterval: size.default(1),
  /** Iterations between measurements on `validation`; default: only before the first and after the last. */
  evalInterval: size.optional(),
  /** Train adapters only. Targets are Megatron's fused linears; default all four, r 16, alpha 32. */
  lora: z
    .strictObject({
      r: size.default(16),
      alpha: z.number().positive().default(32),
      targets: z
        .array(z.enum(['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2']))
        .min(1)
        .default(['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2']),
    })
    .optional(),
  /** `reproducible` (default) gives the same bits on every machine; `fast` may differ in the last place. */
  numerics: z.enum(['reproducible', 'fast']).default('reproducible'),
  /** Threads of the embedded trainer; results do not depend on it. Default: up to 4. */
  threads: size.optional(),
  ...toolchainFields,
  /** What to do about hangs, NaN, spikes and skipped updates; not part of the key. */
  watch: WatchPolicy.prefault({}),
})

export type TrainInput = z.output<typeof TrainInput>
