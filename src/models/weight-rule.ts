/**
 * A length that follows from the model's numbers. `qkv` is heads + 2 groups times the head's width, `heads` heads times
 * the head's width, `head` the head's width, `gateUp` twice the feed-forward width, `rank` the rank of LoRA adapters.
 */
export type Dimension = 'vocab' | 'hidden' | 'heads' | 'head' | 'qkv' | 'ffn' | 'gateUp' | 'rank'

/**
 * How tensor parallelism cuts a weight: `vocab` rows after padding; `qkv` whole groups of heads, fused; `fusedQkv` the
 * same of rows that are fused already; `gateUp` a part of gate above the same part of up; `row` columns; `replicated`
 * not at all.
 */
export type Split = 'vocab' | 'qkv' | 'fusedQkv' | 'gateUp' | 'row' | 'replicated'

/** One Megatron weight and the Hugging Face tensors that it is made of; read in both directions. */
export interface WeightRule {
  /**
   * Hugging Face names; stacked in this order they are q above k above v, or gate above up, or the weight itself.
   * `{i}` is the layer.
   */
  readonly hf: readonly string[]
  /**
   * Name in a legacy checkpoint, below `model.language_model`, with `{i}` for the stage's own layer number; absent
   * when legacy models have no such weight.
   */
  readonly legacy?: string
  /** Name in a Megatron-Core checkpoint. */
  readonly mcore: string
  readonly split: Split
  /** Shape of the stacked tensors. */
  readonly shape: readonly [Dimension] | readonly [Dimension, Dimension]
  /** Stage that holds it: the first, each layer's own, or the last. */
  readonly at: 'first' | 'layer' | 'last'
  /** Present only in models with this property. */
  readonly only?: 'qkvBias' | 'qkNorm' | 'untied'
}
