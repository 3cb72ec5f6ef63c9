import { type DeviceFacts, devices as knownDevices } from './device-facts.ts'
import type { LayoutFlags, LayoutProposal } from './proposal.ts'
import { balancedStages } from './stages.ts'
import { type Recompute, type SettledTraining, type TrainingShape, unlikeStages } from './training-shape.ts'
import { paddedVocabSize } from './vocab-padding.ts'

/** What is tried; every list may be given, and replaces the default. */
export interface SearchSpace {
  /** Default: 1, 2, 4, … up to one node, then whole nodes up to `devices`. */
  readonly deviceCounts: readonly number[]
  /** Default: powers of two up to the devices of one node. */
  readonly tp: readonly number[]
  /**
   * Default: the divisors of the number of layers, and the powers of two below it. Where pp does not divide the layers,
   * stages get shares as equal as can be (`layersPerStage`).
   */
  readonly pp: readonly number[]
  /** Default 1; with Megatron core's models 1, 2, 4 and 8. */
  readonly cp: readonly number[]
  /** Chunks of a stage; 1 is no virtual stages. Default: the divisors of a stage's layers; 1 at pp 1 and 2, or uneven. */
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
  const { numLayers } = model
  const pps = space.pp ?? pipelines(numLayers)
  const chunksOf = pps.map(pp => space.chunks ?? (pp > 2 && numLayers % pp === 0 ? divisors(numLayers / pp) : [1]))
  for (const devices of space.deviceCounts ?? deviceCounts(options.devices, perNode))
    for (const tp of space.tp ?? powersOfTwo(perNode))
      for (const cp of cps)
        for (const [index, pp] of pps.entries()) {
          const dp = devices / (tp * cp * pp)
          if (!all && !Number.isInteger(dp)) continue
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
  const layersDivide = chunks === 1 ? pp <= model.numLayers : model.numLayers % (pp * chunks) === 0
  return Number.isInteger(dp) && globalBatchSize % (microBatchSize * dp) === 0 && layersDivide
}

/** Makes of a candidate what the rules of the toolchain judge. */
export function proposing(options: SearchOptions): (candidate: Candidate) => LayoutProposal {
  const { model, globalBatchSize, seqLength, precision, paddedVocabSize } = options
  const unevenStages = unevenStagesOf(options)
  const flagsOf = [false, true].map(sequenceParallel =>
    [false, true].map(useDistributedOptimizer => ({
      ...options.flags,
      ...{ bf16: precision !== 'fp16', fp16: precision === 'fp16', sequenceParallel, useDistributedOptimizer },
      ...(paddedVocabSize === undefined ? {} : { paddedVocabSize }),
    })),
  )
  return candidate => {
    const { devices: worldSize, tp, pp, cp, chunks, microBatchSize } = candidate
    const layersPerVirtualStage = chunks === 1 ? undefined : model.numLayers / (pp * chunks)
    return {
      model,
      layout: { tp, pp, cp, worldSize, layersPerStage: unevenStages(pp), layersPerVirtualStage },
      batch: { microBatchSize, globalBatchSize, seqLength },
      flags: flagsOf[+candidate.sequenceParallel]?.[+candidate.distributedOptimizer],
    }
  }
}

/** Makes of a candidate whose sizes divide a training with every default in place. */
export function settling(
  options: SearchOptions,
): (
  candidate: Candidate,
  again: { readonly recompute: Recompute; readonly recomputeNumLayers?: number },
) => SettledTraining {
  const { model, globalBatchSize, seqLength, task = 'pretrain', precision = 'bf16' } = options
  const unevenStages = unevenStagesOf(options)
  const paddedTo = remembering((tp: number) => paddedVocabSize({ vocabSize: model.vocabSize, tp }))
  const stagesOf = remembering((pp: number) => {
    const uneven = unevenStages(pp)
    const layers = model.numLayers / pp
    return { unlikeStages: unlikeStages(pp, uneven), stageLayers: (stage: number) => uneven?.[stage] ?? layers }
  })
  const { flashAttention = true, fusedKernels = task !== 'lora' } = options
  const lora = task === 'lora' ? (options.loraRank ?? 16) : undefined
  const fp32Gradients = precision === 'bf16' || (options.accumulateGradsInFp32 ?? false)
  return (candidate, { recompute, recomputeNumLayers = Number.POSITIVE_INFINITY }) => {
    const { devices: worldSize, tp, pp, cp, chunks, microBatchSize, distributedOptimizer } = candidate
    const dp = worldSize / (tp * pp * cp)
    const { unlikeStages, stageLayers } = stagesOf(pp)
    return {
      model,
      tp,
      pp,
      cp,
      dp,
      worldSize,
      stageLayers,
      unlikeStages,
      chunks,
      microBatchSize,
      globalBatchSize,
      microBatches: globalBatchSize / (microBatchSize * dp),
      seqLength,
      lora,
      precision,
      fp32Gradients,
      sequenceParallel: tp > 1 && candidate.sequenceParallel,
      distributedOptimizer,
      flashAttention,
      fusedKernels,
      recompute,
      recomputeNumLayers,
      paddedVocabSize: options.paddedVocabSize ?? paddedTo(tp),
    }
  }
}

/** The list of stages for a pp that does not divide the layers. */
function unevenStagesOf({ model: { numLayers } }: SearchOptions): (pp: number) => readonly number[] | undefined {
  return remembering(pp => (numLayers % pp === 0 ? undefined : balancedStages(numLayers, pp)))
}

function remembering<K, V>(make: (key: K) => V): (key: K) => V {
  const made = new Map<K, V>()
  return key => {
    if (!made.has(key)) made.set(key, make(key))
    return made.get(key) as V
  }
}

function deviceCounts(most: number, perNode: number): readonly number[] {
  const part = powersOfTwo(perNode).filter(count => count < perNode)
  const nodes = Array.from({ length: Math.floor(most / perNode) }, (_, index) => (index + 1) * perNode)
  return [...part.filter(count => count <= most), ...nodes]
}

function pipelines(numLayers: number): readonly number[] {
  return [...new Set([...divisors(numLayers), ...powersOfTwo(numLayers - 1)])].sort((a, b) => a - b)
}

function powersOfTwo(most: number): readonly number[] {
  return Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, power) => 2 ** power)
}

function divisors(number: number): readonly number[] {
  return Array.from({ length: number }, (_, index) => index + 1).filter(divisor => number % divisor === 0)
}
