import type { ModelShape } from './training-shape.ts'

/** Which part of a model one rank holds. */
export interface RankPart {
  readonly tp: number
  /** Transformer layers. */
  readonly layers: number
  /** The embedding is here. */
  readonly first: boolean
  /** The last norm and the output layer are here. */
  readonly last: boolean
  /** Rows of the embedding over all ranks. */
  readonly paddedVocabSize: number
}

/** Width of query, and of key or value, on one rank; query groups fewer than tp are copied to the ranks that share them. */
export function attentionWidths(model: ModelShape, tp: number): { readonly query: number; readonly keyValue: number } {
  const { numAttentionHeads, numQueryGroups, kvChannels } = model
  return {
    query: (numAttentionHeads * kvChannels) / tp,
    keyValue: Math.max(1, numQueryGroups / tp) * kvChannels,
  }
}

/**
 * Parameters that one rank holds, exactly: norms are on every rank, linear layers are cut.
 *
 * A tied embedding is held once at pp 1, and once each on the first and the last of several stages.
 * Source: Megatron-LM core_r0.6.0, legacy/model/transformer.py and legacy/model/module.py:39-90
 * (`shared_embedding_or_output_weight`).
 */
export function rankParameters(model: ModelShape, part: RankPart): number {
  const { hiddenSize } = model
  const rows = (part.paddedVocabSize / part.tp) * hiddenSize
  const output = part.last && !(part.first && model.tiedEmbeddings) ? rows : 0
  return part.layers * layerParameters(model, part.tp) + (part.first ? rows : 0) + (part.last ? hiddenSize : 0) + output
}

function layerParameters(model: ModelShape, tp: number): number {
  const { hiddenSize, ffnHiddenSize, kvChannels, addQkvBias, qkNorm } = model
  const { query, keyValue } = attentionWidths(model, tp)
  const qkv = query + 2 * keyValue
  const norms = 2 * hiddenSize + (qkNorm ? 2 * kvChannels : 0)
  return norms + hiddenSize * (qkv + query + (3 * ffnHiddenSize) / tp) + (addQkvBias ? qkv : 0)
}

/**
 * Parameters of the LoRA adapters on one rank, on all four linear layers of each transformer layer. Of the two matrices
 * of an adapter the one on the cut side is cut, the other is on every rank.
 * Source: peft 0.7.1, tuners/lora/tp_layer.py, `update_layer`.
 */
export function adapterParameters(
  model: ModelShape,
  { tp, layers, rank }: { readonly tp: number; readonly layers: number; readonly rank: number },
): number {
  const { hiddenSize, ffnHiddenSize } = model
  const { query, keyValue } = attentionWidths(model, tp)
  const cut = query + 2 * keyValue + query + (3 * ffnHiddenSize) / tp
  return layers * rank * (4 * hiddenSize + cut)
}

/** Parameters of the whole model, as in its Hugging Face checkpoint: no padding, a tied embedding once. */
export function modelParameters(model: ModelShape): number {
  const part = { tp: 1, layers: model.numLayers, first: true, last: true, paddedVocabSize: model.vocabSize }
  return rankParameters(model, part)
}
