/** A training as its numbers: what `layoutViolations` judges. What is not known breaks no rule. */
export interface LayoutProposal {
  readonly model?: ModelNumbers | undefined
  readonly layout: LayoutNumbers
  readonly batch?: BatchNumbers | undefined
  readonly flags?: LayoutFlags | undefined
}

/** The numbers of a model by which layouts are judged; an `Architecture` has them. */
export interface ModelNumbers {
  readonly numLayers?: number | undefined
  readonly hiddenSize?: number | undefined
  readonly ffnHiddenSize?: number | undefined
  readonly numAttentionHeads?: number | undefined
  readonly numQueryGroups?: number | undefined
  /** Width of one head; when absent, the heads must share out the hidden size. */
  readonly kvChannels?: number | undefined
  readonly maxPositionEmbeddings?: number | undefined
  /** Width of the attention window in tokens; absent when attention is full. */
  readonly slidingWindow?: number | undefined
  /** Positions are told by ALiBi, not by RoPE. */
  readonly alibi?: boolean | undefined
  /** Share of each head that RoPE turns; below 1 it is GLM's RoPE. */
  readonly rotaryPercent?: number | undefined
}

export interface LayoutNumbers {
  readonly tp: number
  readonly pp: number
  /** Default 1. */
  readonly cp?: number | undefined
  /** Devices altogether; default `tp · pp · cp`, one replica of the model. */
  readonly worldSize?: number | undefined
  /** Layers of each stage, for uneven pipelines (`--num-layer-list`); default equal shares. */
  readonly layersPerStage?: readonly number[] | undefined
  /** `--num-layers-per-virtual-pipeline-stage`; default no virtual stages. */
  readonly layersPerVirtualStage?: number | undefined
}

export interface BatchNumbers {
  /** Default 1. */
  readonly microBatchSize?: number | undefined
  readonly globalBatchSize?: number | undefined
  readonly seqLength?: number | undefined
}

/** Megatron's and ModelLink's switches that bear on the layout or exclude each other; each off or unset when absent. */
export interface LayoutFlags {
  /** Megatron core's models, not the legacy ones. */
  readonly useMcoreModels?: boolean | undefined
  /** Ignored at tp 1, as Megatron does. */
  readonly sequenceParallel?: boolean | undefined
  readonly useDistributedOptimizer?: boolean | undefined
  readonly overlapGradReduce?: boolean | undefined
  readonly overlapParamGather?: boolean | undefined
  readonly fp16?: boolean | undefined
  readonly bf16?: boolean | undefined
  readonly reuseFp32Param?: boolean | undefined
  readonly recomputeGranularity?: 'full' | 'selective' | undefined
  readonly recomputeMethod?: 'uniform' | 'block' | undefined
  readonly recomputeNumLayers?: number | undefined
  readonly recomputeActivationFunction?: boolean | undefined
  readonly enableRecomputeLayersPerPpRank?: boolean | undefined
  readonly swapAttention?: boolean | undefined
  readonly distributeSavedActivations?: boolean | undefined
  /** Default `ulysses`, ModelLink's. */
  readonly contextParallelAlgo?: 'ulysses' | 'megatron' | 'hybrid' | undefined
  /** Ulysses' share of cp with `hybrid`. */
  readonly ulyssesDegreeInCp?: number | undefined
  readonly variableSeqLengths?: boolean | undefined
  readonly tokenizerPaddingSide?: 'left' | 'right' | undefined
  readonly useFusedRotaryPosEmb?: boolean | undefined
  /** Rows of the embedding in the checkpoint (`--padded-vocab-size`); must hold what tp cuts. */
  readonly paddedVocabSize?: number | undefined
  readonly outputLayerSliceNum?: number | undefined
  readonly lr?: number | undefined
  readonly minLr?: number | undefined
  readonly trainIters?: number | undefined
  /** Default `trainIters`. */
  readonly lrDecayIters?: number | undefined
  readonly lrWarmupIters?: number | undefined
  readonly lrWarmupFraction?: number | undefined
  /**
   * Each of fewer query groups than tp goes to tp / groups devices, as `hfToMegatron` stores them; training then runs
   * with tp groups. The toolchain's own converter cannot, though the vendor's guide trains glm3-6b (2 groups) at tp 4.
   */
  readonly replicateQueryGroups?: boolean | undefined
}
