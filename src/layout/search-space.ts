import { type DeviceFacts, devices as knownDevices } from './device-facts.ts'
import type { LayoutFlags, LayoutProposal } from './proposal.ts'
import type { Recompute, SettledTraining, TrainingShape } from './training-shape.ts'
import { paddedVocabSize } from './vocab-padding.ts'

/** What is tried; every list may be given, and replaces the default. */
export interface SearchSpace {
  /** Default: 1, 2, 4, … up to one node, then whole nodes up to `devices`. */
  readonly deviceCounts: readonly number[]
  /** Default: powers of two up to the devices of one node. */
  readonly tp: readonly number[]
  /** Default: the divisors of the number of layers. */
  readonly pp: readonly number[]
  /** Default 1; with Megatron core's models 1, 2, 4 and 8. */
  readonly cp: readonly number[]
  /** Chunks of a stage; 1 is no virtual stages. Default: the divisors of a stage's layers; 1 at pp 1 and 2. */
  readonly chunks: readonly number[]
  /** Default 1, 2, 4, 8, 16. */
  readonly microBatchSize: readonly number[]
  /** Default: on where tp > 1. */
  readonly sequenceParallel: readonly boolean[]
  /** Default both, on only where there are replicas. */
  readonly distributedOptimizer: readonly boolean[]
  /** Of these the first that fits is taken, of `full` with the fewest layers; default `none`, then `full`. */
  readonly recompute: readonly Recompute[]
}

export interface SearchOptions
  extends Omit<
    TrainingShape,
    | 'layout'
    | 'globalBatchSize'
    | 'microBatchSize'
    | 'sequenceParallel'
    | 'distributedOptimizer'
    | 'recompute'
    | 'recomputeNumLayers'
  > {
  readonly globalBatchSize: number
  /** The most devices. */
  readonly devices: number
  /** Default `devices.snt9b`. */
  readonly device?: DeviceFacts | undefined
  /** Default `defaultEfficiency`. */
  readonly efficiency?: number | undefined
  /** Iterations of the training, for its hours and price. Default 1. */
  readonly iterations?: number | undefined
  readonly pricePerDeviceHour?: number | undefined
  /** What holds besides: `useMcoreModels`, `replicateQueryGroups` and the like. */
  readonly flags?: LayoutFlags | undefined
  readonly space?: Partial<SearchSpace> | undefined
}

/** One point of the space, before anything is known of it. */
export interface Candidate {
  readonly devices: number
  readonly tp: number
  readonly pp: number
  readonly cp: number
  readonly chunks: number
  readonly microBatchSize: number
  readonly sequenceParallel: boolean
  readonly distributedOptimizer: boolean
}

/**
 * Calls `visit` with every candidate of the space whose sizes divide, or with `all` of them. Recomputation is left to
 * whoever weighs it.
 */
export function eachCandidate(
  options: SearchOptions,
  visit: (candidate: Candidate) => void,
  { all = false }: { readonly all?: boolean } = {},
): void {
  const { model, globalBatchSize, space = {}, flags = {} } = options
  const { perNode } = options.device ?? knownDevices.snt9b
  const { microBatchSize: batches = [1, 2, 4, 8, 16], cp: cps = flags.useMcoreModels ? [1, 2, 4, 8] : [1] } = space
  const pps = space.pp ?? divisors(model.numLayers)
  const chunksOf = pps.map(pp => space.chunks ?? (pp > 2 ? divisors(Math.floor(model.numLayers / pp)) : [1]))
  for (const devices of space.deviceCounts ?? deviceCounts(options.devices, perNode))
    for (const tp of space.tp ?? powersOfTwo(perNode))
      for (const cp of cps)
        for (const [index, pp] of pps.entries()) {
          const dp = devices / (tp * cp * pp)
          if (!all && (!Number.isInteger(dp) || model.numLayers % pp !== 0)) continue
          for (const microBatchSize of batches) {
            if (!all && globalBatchSize % (microBatchSize * dp) !== 0) continue
            for (const chunks of chunksOf[index] ?? [])
              for (const sequenceParallel of space.sequenceParallel ?? [tp > 1])
                for (const distributedOptimizer of space.distributedOptimizer ??
                  (dp * cp > 1 ? [false, true] : [false]))
                  visit({ devices, tp, pp, cp, chunks, microBatchSize, sequenceParallel, distributedOptimizer })
          }
        }
}

/** True when sizes divide; cheaper than asking the rules, of which it is a part. */
export function sizesDivide({ model, globalBatchSize }: SearchOptions, candidate: Candidate): boolean {
  const { devices, tp, pp, cp, chunks, microBatchSize } = candidate
  const dp = devices / (tp * pp * cp)
  return Number.isInteger(dp) && globalBatchSize % (microBatchSize * dp) === 0 && model.numLayers % (pp * chunks) === 0
}

/** A candidate as the rules of the toolchain judge it. */
export function proposalOf(options: SearchOptions, candidate: Candidate): LayoutProposal {
  const { model, globalBatchSize, seqLength, precision, flags } = options
  const { devices: worldSize, tp, pp, cp, chunks, microBatchSize } = candidate
  return {
    model,
    layout: {
      tp,
      pp,
      cp,
      worldSize,
      layersPerVirtualStage: chunks === 1 ? undefined : model.numLayers / (pp * chunks),
    },
    batch: { microBatchSize, globalBatchSize, seqLength },
    flags: {
      ...flags,
      bf16: precision !== 'fp16',
      fp16: precision === 'fp16',
      sequenceParallel: candidate.sequenceParallel,
      useDistributedOptimizer: candidate.distributedOptimizer,
      ...(options.paddedVocabSize === undefined ? {} : { paddedVocabSize: options.paddedVocabSize }),
    },
  }
}

/** A candidate whose sizes divide, with every default in place. */
export function settleCandidate(
  options: SearchOptions,
  candidate: Candidate,
  { recompute, recomputeNumLayers }: { readonly recompute: Recompute; readonly recomputeNumLayers?: number },
): SettledTraining {
  const { model, globalBatchSize, seqLength, task = 'pretrain', precision = 'bf16' } = options
  const { devices: worldSize, tp, pp, cp, chunks, microBatchSize } = candidate
  const dp = worldSize / (tp * pp * cp)
  const layers = model.numLayers / pp
  return {
    model,
    tp,
    pp,
    cp,
    dp,
    worldSize,
    stageLayers: () => layers,
    even: true,
    chunks,
    microBatchSize,
    globalBatchSize,
    microBatches: globalBatchSize / (microBatchSize * dp),
    seqLength,
    lora: task === 'lora' ? (options.loraRank ?? 16) : undefined,
    precision,
    fp32Gradients: precision === 'bf16' || (options.accumulateGradsInFp32 ?? false),
    sequenceParallel: tp > 1 && candidate.sequenceParallel,
    distributedOptimizer: candidate.distributedOptimizer,
    flashAttention: options.flashAttention ?? true,
    fusedKernels: options.fusedKernels ?? task !== 'lora',
    recompute,
    recomputeNumLayers: recomputeNumLayers ?? Number.POSITIVE_INFINITY,
    paddedVocabSize: options.paddedVocabSize ?? paddedVocabSize({ vocabSize: model.vocabSize, tp }),
  }
}

function deviceCounts(most: number, perNode: number): readonly number[] {
  const part = powersOfTwo(perNode).filter(count => count < perNode)
  const nodes = Array.from({ length: Math.floor(most / perNode) }, (_, index) => (index + 1) * perNode)
  return [...part.filter(count => count <= most), ...nodes]
}

function powersOfTwo(most: number): readonly number[] {
  return Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, power) => 2 ** power)
}

function divisors(number: number): readonly number[] {
  return Array.from({ length: number }, (_, index) => index + 1).filter(divisor => number % divisor === 0)
}
