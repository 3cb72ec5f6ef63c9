import { z } from 'zod'
import { FormatError, UnsupportedError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import type { Family } from './families.ts'

/** Where the numbers come from, and the family that knows what absent keys mean. */
export interface ConfigContext {
  readonly family: Family
  readonly file: string
}

const count = z
  .int()
  .min(1)
  .max(2 ** 31)
// Beyond these a file is hostile: lists as long as the number are made.
const layers = z.int().min(1).max(10_000)
const heads = z.int().min(1).max(65_536)
const positive = z.number().gt(0)
const share = z.number().gt(0).max(1)
const rope = z.object({
  rope_theta: positive.nullish(),
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  partial_rotary_factor: share.nullish(),
})

/** The keys of `config.json` that weights and attention depend on, as transformers' own models have them. */
export const LlamaConfig = z.object({
  num_hidden_layers: layers,
  hidden_size: count,
  intermediate_size: count,
  num_attention_heads: heads,
  num_key_value_heads: heads.nullish(),
  head_dim: count.nullish(),
  vocab_size: count,
  max_position_embeddings: count.nullish(),
  /** Baichuan. */
  model_max_length: count.nullish(),
  rms_norm_eps: positive.nullish(),
  rope_theta: positive.nullish(),
  rope_scaling: rope.nullish(),
  rope_parameters: rope.nullish(),
  partial_rotary_factor: share.nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  hidden_act: z.string().nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().nullish(),
})

/** The numbers of a Llama, Mistral, Qwen2, Qwen3, GLM or Baichuan. */
export function fromLlamaConfig(
  config: z.infer<typeof LlamaConfig>,
  context: ConfigContext,
): Omit<Architecture, 'family'> {
  const { family, file } = context
  const { defaults } = family
  const heads = config.num_attention_heads
  const groups = config.num_key_value_heads ?? heads
  checkGroups(file, { heads, groups, keys: ['num_attention_heads', 'num_key_value_heads'] })
  const kvChannels = config.head_dim ?? defaults.kvChannels ?? config.hidden_size / heads
  if (!Number.isInteger(kvChannels)) {
    const expected = `hidden_size (${config.hidden_size}) to be a multiple of num_attention_heads, or a head_dim`
    throw new FormatError({ file, expected, found: `${heads} heads` })
  }
  const isQkvBias = family.attentionBiasIsQkv === true
  if (config.attention_bias === true && !isQkvBias)
    refuse(file, 'attention_bias is true: bias on every attention layer')
  if (config.mlp_bias === true) refuse(file, 'mlp_bias is true: bias on the feed-forward layers')
  if (config.hidden_act != null && config.hidden_act !== 'silu') refuse(file, `hidden_act is '${config.hidden_act}'`)
  const ropeType = [config.rope_scaling, config.rope_parameters]
    .map(it => it?.rope_type ?? it?.type)
    .find(it => it != null && it !== 'default')
  const window = (config.use_sliding_window ?? family.slidesByDefault) ? config.sliding_window : undefined
  const rotaryPercent =
    config.rope_parameters?.partial_rotary_factor ?? config.partial_rotary_factor ?? defaults.rotaryPercent ?? 1
  // Baichuan 13B's configuration class has model_max_length in place of the positions that RoPE needs.
  const isAlibi = family.name === 'baichuan' && config.max_position_embeddings == null
  return {
    numLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnHiddenSize: config.intermediate_size,
    numAttentionHeads: heads,
    numQueryGroups: groups,
    kvChannels,
    vocabSize: config.vocab_size,
    maxPositionEmbeddings: config.max_position_embeddings ?? config.model_max_length ?? defaults.maxPositionEmbeddings,
    normEpsilon: config.rms_norm_eps ?? defaults.normEpsilon,
    rotaryBase: config.rope_parameters?.rope_theta ?? config.rope_theta ?? defaults.rotaryBase,
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    addQkvBias: isQkvBias ? (config.attention_bias ?? family.addQkvBias) : family.addQkvBias,
    ...(ropeType == null ? {} : { ropeScaling: ropeType }),
    ...(rotaryPercent === 1 ? {} : { rotaryPercent }),
    ...(isAlibi ? { alibi: true } : {}),
    ...(family.names.qkNorm === undefined ? {} : { qkNorm: true }),
    ...(window == null ? {} : { slidingWindow: window }),
  }
}

/** The keys of `QWenConfig`, the first generation of Qwen. */
export const QwenConfig = z.object({
  num_hidden_layers: layers,
  hidden_size: count,
  /** Twice the width of each half of the gated layer. */
  intermediate_size: count.multipleOf(2),
  num_attention_heads: heads,
  kv_channels: count.nullish(),
  vocab_size: count,
  max_position_embeddings: count.nullish(),
  layer_norm_epsilon: positive.nullish(),
  rotary_emb_base: positive.nullish(),
  rotary_pct: share.nullish(),
  no_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
})

/**
 * The numbers of a Qwen of the first generation. `use_dynamic_ntk` and `use_logn_attn` change attention beyond
 * `seq_length` when generating, never in training, and are no part of them.
 */
export function fromQwenConfig(
  config: z.infer<typeof QwenConfig>,
  { family, file }: ConfigContext,
): Omit<Architecture, 'family'> {
  const { defaults } = family
  if (config.no_bias === false) refuse(file, 'no_bias is false: bias on every linear layer')
  return {
    numLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnHiddenSize: config.intermediate_size / 2,
    numAttentionHeads: config.num_attention_heads,
    numQueryGroups: config.num_attention_heads,
    kvChannels: config.kv_channels ?? 128,
    vocabSize: config.vocab_size,
    maxPositionEmbeddings: config.max_position_embeddings ?? defaults.maxPositionEmbeddings,
    normEpsilon: config.layer_norm_epsilon ?? defaults.normEpsilon,
    rotaryBase: config.rotary_emb_base ?? defaults.rotaryBase,
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    addQkvBias: family.addQkvBias,
    ...(config.rotary_pct == null || config.rotary_pct === 1 ? {} : { rotaryPercent: config.rotary_pct }),
  }
}

/** The keys of `ChatGLMConfig`: ChatGLM2, ChatGLM3, and GLM-4 with its own code. */
export const ChatglmConfig = z.object({
  num_layers: layers,
  hidden_size: count,
  ffn_hidden_size: count,
  num_attention_heads: heads,
  kv_channels: count.nullish(),
  multi_query_attention: z.boolean().nullish(),
  multi_query_group_num: heads.nullish(),
  padded_vocab_size: count,
  seq_length: count.nullish(),
  layernorm_epsilon: positive.nullish(),
  rope_ratio: positive.nullish(),
  add_qkv_bias: z.boolean().nullish(),
  add_bias_linear: z.boolean().nullish(),
  rmsnorm: z.boolean().nullish(),
  post_layer_norm: z.boolean().nullish(),
  apply_residual_connection_post_layernorm: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
})

/** The numbers of a ChatGLM. Half of each head is turned by RoPE, whose base is 10000 times `rope_ratio`. */
export function fromChatglmConfig(
  config: z.infer<typeof ChatglmConfig>,
  { family, file }: ConfigContext,
): Omit<Architecture, 'family'> {
  const { defaults } = family
  const heads = config.num_attention_heads
  const groups = config.multi_query_attention === true ? (config.multi_query_group_num ?? 1) : heads
  checkGroups(file, { heads, groups, keys: ['num_attention_heads', 'multi_query_group_num'] })
  if (config.add_bias_linear === true) refuse(file, 'add_bias_linear is true: bias on every linear layer')
  if (config.rmsnorm === false) refuse(file, 'rmsnorm is false')
  if (config.post_layer_norm === false) refuse(file, 'post_layer_norm is false: no norm after the last layer')
  if (config.apply_residual_connection_post_layernorm === true)
    refuse(file, 'apply_residual_connection_post_layernorm is true')
  return {
    numLayers: config.num_layers,
    hiddenSize: config.hidden_size,
    ffnHiddenSize: config.ffn_hidden_size,
    numAttentionHeads: heads,
    numQueryGroups: groups,
    kvChannels: config.kv_channels ?? 128,
    vocabSize: config.padded_vocab_size,
    maxPositionEmbeddings: config.seq_length ?? defaults.maxPositionEmbeddings,
    normEpsilon: config.layernorm_epsilon ?? defaults.normEpsilon,
    rotaryBase: defaults.rotaryBase * (config.rope_ratio ?? 1),
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    addQkvBias: config.add_qkv_bias ?? family.addQkvBias,
    ...(defaults.rotaryPercent === undefined ? {} : { rotaryPercent: defaults.rotaryPercent }),
  }
}

function checkGroups(file: string, found: { heads: number; groups: number; keys: readonly [string, string] }): void {
  const { heads, groups, keys } = found
  if (heads % groups === 0) return
  throw new FormatError({ file, expected: `${keys[0]} (${heads}) to be a multiple of ${keys[1]}`, found: `${groups}` })
}

function refuse(file: string, what: string): never {
  throw new UnsupportedError(`${file}: ${what}, which the supported families do not have.`)
}
