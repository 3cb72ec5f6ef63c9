/**
 * What a family calls the modules of a dense decoder, without `.weight` and `.bias`; `{i}` is the layer. Where a family
 * fuses query, key and value, or gate and up, there is one name: its rows lie one part above the other in that order.
 */
export interface WeightNames {
  readonly embedding: string
  readonly inputNorm: string
  /** Query, key and value. */
  readonly qkv: readonly [string, string, string] | readonly [string]
  /** Norms of query and key heads, in families that have them. */
  readonly qkNorm?: readonly [string, string]
  readonly attentionOutput: string
  readonly postAttentionNorm: string
  readonly gateUp: readonly [string, string] | readonly [string]
  readonly down: string
  readonly finalNorm: string
  readonly outputLayer: string
}

/** Llama 2 and 3, Yi, Mistral, Qwen1.5, Qwen2. Source: transformers 4.43, modeling_llama.py. */
export const llamaNames: WeightNames = {
  embedding: 'model.embed_tokens',
  inputNorm: 'model.layers.{i}.input_layernorm',
  qkv: ['model.layers.{i}.self_attn.q_proj', 'model.layers.{i}.self_attn.k_proj', 'model.layers.{i}.self_attn.v_proj'],
  attentionOutput: 'model.layers.{i}.self_attn.o_proj',
  postAttentionNorm: 'model.layers.{i}.post_attention_layernorm',
  gateUp: ['model.layers.{i}.mlp.gate_proj', 'model.layers.{i}.mlp.up_proj'],
  down: 'model.layers.{i}.mlp.down_proj',
  finalNorm: 'model.norm',
  outputLayer: 'lm_head',
}

/** Source: transformers 4.51, modeling_qwen3.py. */
export const qwen3Names: WeightNames = {
  ...llamaNames,
  qkNorm: ['model.layers.{i}.self_attn.q_norm', 'model.layers.{i}.self_attn.k_norm'],
}

/** GLM-4 as transformers itself has it (`glm-4-9b-chat-hf`). Source: transformers 4.46, modeling_glm.py. */
export const glmNames: WeightNames = { ...llamaNames, gateUp: ['model.layers.{i}.mlp.gate_up_proj'] }

/** Baichuan 1 and 2. Source: modeling_baichuan.py of the models; ModelLink 1.1, loader_llama2_hf.py:127-134. */
export const baichuanNames: WeightNames = { ...llamaNames, qkv: ['model.layers.{i}.self_attn.W_pack'] }

/**
 * Qwen, the first generation: `w2` is the gate, `w1` is up. Source: modeling_qwen.py of the models; ModelLink 1.1,
 * loader_qwen_hf.py:91-150.
 */
export const qwenNames: WeightNames = {
  embedding: 'transformer.wte',
  inputNorm: 'transformer.h.{i}.ln_1',
  qkv: ['transformer.h.{i}.attn.c_attn'],
  attentionOutput: 'transformer.h.{i}.attn.c_proj',
  postAttentionNorm: 'transformer.h.{i}.ln_2',
  gateUp: ['transformer.h.{i}.mlp.w2', 'transformer.h.{i}.mlp.w1'],
  down: 'transformer.h.{i}.mlp.c_proj',
  finalNorm: 'transformer.ln_f',
  outputLayer: 'lm_head',
}

/**
 * ChatGLM3 and GLM-4 with their own code. Source: modeling_chatglm.py of the models; ModelLink 1.1,
 * loader_chatglm3_hf.py:97-172.
 */
export const chatglmNames: WeightNames = {
  embedding: 'transformer.embedding.word_embeddings',
  inputNorm: 'transformer.encoder.layers.{i}.input_layernorm',
  qkv: ['transformer.encoder.layers.{i}.self_attention.query_key_value'],
  attentionOutput: 'transformer.encoder.layers.{i}.self_attention.dense',
  postAttentionNorm: 'transformer.encoder.layers.{i}.post_attention_layernorm',
  gateUp: ['transformer.encoder.layers.{i}.mlp.dense_h_to_4h'],
  down: 'transformer.encoder.layers.{i}.mlp.dense_4h_to_h',
  finalNorm: 'transformer.encoder.final_layernorm',
  outputLayer: 'transformer.output_layer',
}
