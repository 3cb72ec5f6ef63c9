/** The numbers of a dense decoder, under Megatron's names; `config.json` is their source. */
export interface Architecture {
  /** Which weight names and configuration dialect the model follows, by its HF `model_type`: `llama`, `qwen2`, … */
  readonly family: string
  readonly numLayers: number
  readonly hiddenSize: number
  /** Width of the gated feed-forward layer (HF `intermediate_size`). */
  readonly ffnHiddenSize: number
  readonly numAttentionHeads: number
  /** Key/value heads (HF `num_key_value_heads`); equals `numAttentionHeads` without grouped-query attention. */
  readonly numQueryGroups: number
  /** Width of one head (HF `head_dim`). */
  readonly kvChannels: number
  /** Rows of the embedding as HF stores it, before Megatron's padding. */
  readonly vocabSize: number
  readonly maxPositionEmbeddings: number
  readonly normEpsilon: number
  /** RoPE base (HF `rope_theta`). */
  readonly rotaryBase: number
  /** One matrix serves as embedding and output layer (HF `tie_word_embeddings`). */
  readonly tiedEmbeddings: boolean
  /** Query, key and value projections carry a bias. */
  readonly addQkvBias: boolean
  /**
   * RoPE scaling of long-context models (HF `rope_scaling` type: `llama3`, `yarn`, …); absent when there is none.
   * Weights do not depend on it, attention does.
   */
  readonly ropeScaling?: string
  /** Share of each head that RoPE turns, from its start (GLM: 0.5, in pairs of neighbours); absent when it is all. */
  readonly rotaryPercent?: number
  /** Positions are told by ALiBi (Baichuan 13B), not by RoPE. */
  readonly alibi?: true
  /** Query and key heads are normalised before RoPE (Qwen3). */
  readonly qkNorm?: true
  /** Width of the attention window in tokens (HF `sliding_window`); absent when attention is full. */
  readonly slidingWindow?: number
}
