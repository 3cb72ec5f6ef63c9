import { LayoutError } from '../errors.ts'
import type { LayoutNumbers } from './proposal.ts'
import { paddedVocabSize } from './vocab-padding.ts'

/** The numbers of a model that its memory and time follow from; an `Architecture` has them. */
export interface ModelShape {
  readonly numLayers: number
  readonly hiddenSize: number
  readonly ffnHiddenSize: number
  readonly numAttentionHeads: number
  readonly numQueryGroups: number
  /** Width of one head. */
  readonly kvChannels: number
  /** Rows of the embedding before padding. */
  readonly vocabSize: number
  readonly maxPositionEmbeddings?: number | undefined
  readonly tiedEmbeddings?: boolean | undefined
  readonly addQkvBias?: boolean | undefined
  readonly qkNorm?: boolean | undefined
  /** Positions are told by ALiBi, whose bias is kept per head. */
  readonly alibi?: boolean | undefined
}

/** `selective` computes the attention core twice, `full` whole layers. */
export type Recompute = 'none' | 'selective' | 'full'

/** One training as numbers: what memory, time and price are worked out from. */
export interface TrainingShape {
  readonly model: ModelShape
  readonly layout: LayoutNumbers
  /** Default 1. */
  readonly microBatchSize?: number | undefined
  /** Default: one micro batch per replica. */
  readonly globalBatchSize?: number | undefined
  readonly seqLength: number
  /** Default `pretrain`. `lora` freezes the model's weights. */
  readonly task?: 'pretrain' | 'sft' | 'lora' | undefined
  /** `--lora-r`, of all four linear layers. Default 16. */
  readonly loraRank?: number | undefined
  /** Default `bf16`. */
  readonly precision?: 'bf16' | 'fp16' | undefined
  /** `--accumulate-allreduce-grads-in-fp32`. bf16 always does; default false with fp16. */
  readonly accumulateGradsInFp32?: boolean | undefined
  /** Default true where tp > 1; always false at tp 1. */
  readonly sequenceParallel?: boolean | undefined
  /** Default false. */
  readonly distributedOptimizer?: boolean | undefined
  /** Default true. */
  readonly flashAttention?: boolean | undefined
  /** `--use-fused-swiglu`, `--use-fused-rmsnorm`; default true, but false with `lora`, as the toolchain's scripts have it. */
  readonly fusedKernels?: boolean | undefined
  /** Default `none`. */
  readonly recompute?: Recompute | undefined
  /** Layers of each stage (of each chunk, with virtual stages) that `full` recomputes (method `block`); default all. */
  readonly recomputeNumLayers?: number | undefined
  /** `--padded-vocab-size`; default `vocabSize` padded to a multiple of tp. */
  readonly paddedVocabSize?: number | undefined
}

/** A training with every default in place. */
export interface SettledTraining {
  readonly model: ModelShape
  readonly tp: number
  readonly pp: number
  readonly cp: number
  readonly dp: number
  readonly worldSize: number
  /** Layers of each stage. */
  readonly stageLayers: (stage: number) => number
  /** The first of each row of stages that are alike: with as many layers, and no output layer. */
  readonly unlikeStages: readonly number[]
  /** Chunks of each stage; 1 without virtual stages. */
  readonly chunks: number
  readonly microBatchSize: number
  readonly globalBatchSize: number
  readonly microBatches: number
  readonly seqLength: number
  readonly lora: number | undefined
  readonly precision: 'bf16' | 'fp16'
  readonly fp32Gradients: boolean
  readonly sequenceParallel: boolean
  readonly distributedOptimizer: boolean
  readonly flashAttention: boolean
  readonly fusedKernels: boolean
  readonly recompute: Recompute
  readonly recomputeNumLayers: number
  readonly paddedVocabSize: number
}

/**
 * A training with its defaults. Whether the toolchain takes it is `layoutViolations`' business; this only needs numbers
 * to reckon with.
 * @throws LayoutError for a size that is no whole number from 1, or a layout that does not divide devices or layers.
 */
export function settleTraining(training: TrainingShape): SettledTraining {
  const { model, layout, microBatchSize = 1, seqLength, task = 'pretrain', precision = 'bf16' } = training
  const { tp, pp, cp = 1, worldSize = tp * pp * cp, layersPerStage, layersPerVirtualStage } = layout
  const dp = worldSize / (tp * pp * cp)
  const { globalBatchSize = microBatchSize * dp, loraRank = 16, recomputeNumLayers } = training
  const chunks = layersPerVirtualStage === undefined ? 1 : model.numLayers / (pp * layersPerVirtualStage)
  const sizes = { tp, pp, cp, worldSize, dp, chunks, microBatchSize, globalBatchSize, seqLength, loraRank }
  const listed = layersPerStage?.reduce((sum, layers) => sum + layers, 0) ?? model.numLayers
  const counted = layersPerStage ? layersPerStage.length === pp : model.numLayers % pp === 0
  for (const [name, value] of Object.entries(sizes)) {
    if (name === 'chunks' && !counted) continue
    if (!isCount(value)) refuse(name, value, training)
  }
  if (listed !== model.numLayers || !counted)
    throw new LayoutError(
      `${model.numLayers} layers do not divide into pp ${pp}${layersPerStage ? ` as [${layersPerStage}]` : ''}.`,
    )
  return {
    model,
    tp,
    pp,
    cp,
    dp,
    worldSize,
    stageLayers: stage => layersPerStage?.[stage] ?? model.numLayers / pp,
    unlikeStages: unlikeStages(pp, layersPerStage),
    chunks,
    microBatchSize,
    globalBatchSize,
    // A remainder is refused by the toolchain; counting it as one more errs on the safe side.
    microBatches: Math.ceil(globalBatchSize / (microBatchSize * dp)),
    seqLength,
    lora: task === 'lora' ? loraRank : undefined,
    precision,
    fp32Gradients: precision === 'bf16' || (training.accumulateGradsInFp32 ?? false),
    sequenceParallel: tp > 1 && (training.sequenceParallel ?? true),
    distributedOptimizer: training.distributedOptimizer ?? false,
    flashAttention: training.flashAttention ?? true,
    fusedKernels: training.fusedKernels ?? task !== 'lora',
    recompute: training.recompute ?? 'none',
    recomputeNumLayers: recomputeNumLayers ?? Number.POSITIVE_INFINITY,
    paddedVocabSize: training.paddedVocabSize ?? paddedVocabSize({ vocabSize: model.vocabSize, tp }),
  }
}

/** Of a pipeline with that many layers on its stages; by default all alike. The last stage has the output layer. */
export function unlikeStages(pp: number, layersPerStage?: readonly number[]): readonly number[] {
  if (layersPerStage === undefined) return pp === 1 ? [0] : [0, pp - 1]
  return layersPerStage.flatMap((layers, stage) =>
    stage === 0 || stage === pp - 1 || layers !== layersPerStage[stage - 1] ? [stage] : [],
  )
}

const isCount = (value: number) => Number.isSafeInteger(value) && value >= 1

function refuse(name: string, value: number, { layout, model }: TrainingShape): never {
  const { tp, pp, cp = 1, worldSize, layersPerVirtualStage } = layout
  if (name === 'dp') throw new LayoutError(`tp ${tp} × pp ${pp} × cp ${cp} does not divide ${worldSize} devices.`)
  if (name === 'chunks')
    throw new LayoutError(
      `${model.numLayers} layers do not divide into virtual stages of ${layersPerVirtualStage} layers on pp ${pp}.`,
    )
  throw new LayoutError(`${name} is ${value}; it must be a whole number from 1.`)
}
