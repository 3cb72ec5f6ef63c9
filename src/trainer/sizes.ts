import type { EngineOptions } from './engine-options.ts'

/** The sizes of a model and its micro-batch. */
export interface Sizes {
  readonly batch: number
  readonly positions: number
  /** batch · positions */
  readonly tokens: number
  readonly hidden: number
  readonly ffn: number
  readonly heads: number
  readonly groups: number
  readonly headDim: number
  readonly vocab: number
  /** Width of all query heads, and of all key heads. */
  readonly queries: number
  readonly keys: number
  readonly qkv: number
  readonly layers: number
  readonly epsilon: number
  readonly rotaryBase: number
}

/** The sizes of a model and its batch. */
export function sizesOf({ architecture: a, microBatchSize, seqLength }: EngineOptions): Sizes {
  const queries = a.numAttentionHeads * a.kvChannels
  const keys = a.numQueryGroups * a.kvChannels
  return {
    batch: microBatchSize,
    positions: seqLength,
    tokens: microBatchSize * seqLength,
    hidden: a.hiddenSize,
    ffn: a.ffnHiddenSize,
    heads: a.numAttentionHeads,
    groups: a.numQueryGroups,
    headDim: a.kvChannels,
    vocab: a.vocabSize,
    queries,
    keys,
    qkv: queries + 2 * keys,
    layers: a.numLayers,
    epsilon: a.normEpsilon,
    rotaryBase: a.rotaryBase,
  }
}
