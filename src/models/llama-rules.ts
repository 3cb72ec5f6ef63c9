import type { WeightRule } from './weight-rule.ts'

/**
 * The Llama family: Llama 2 and 3, Qwen1.5, Qwen2, Yi, Mistral.
 * Source: ModelLink 1.1, tools/checkpoint/loader_llama2_hf.py:99-178; its master, tasks/checkpoint/model_cfg.json `base`.
 */
export const llamaRules: readonly WeightRule[] = [
  {
    hf: ['model.embed_tokens.weight'],
    legacy: 'embedding.word_embeddings.weight',
    mcore: 'embedding.word_embeddings.weight',
    split: 'vocab',
    shape: ['vocab', 'hidden'],
    at: 'first',
  },
  {
    hf: ['model.layers.{i}.input_layernorm.weight'],
    legacy: 'encoder.layers.{i}.input_norm.weight',
    mcore: 'decoder.layers.{i}.input_layernorm.weight',
    split: 'replicated',
    shape: ['hidden'],
    at: 'layer',
  },
  {
    hf: [
      'model.layers.{i}.self_attn.q_proj.weight',
      'model.layers.{i}.self_attn.k_proj.weight',
      'model.layers.{i}.self_attn.v_proj.weight',
    ],
    legacy: 'encoder.layers.{i}.self_attention.query_key_value.weight',
    mcore: 'decoder.layers.{i}.self_attention.linear_qkv.weight',
    split: 'qkv',
    shape: ['qkv', 'hidden'],
    at: 'layer',
  },
  {
    hf: [
      'model.layers.{i}.self_attn.q_proj.bias',
      'model.layers.{i}.self_attn.k_proj.bias',
      'model.layers.{i}.self_attn.v_proj.bias',
    ],
    legacy: 'encoder.layers.{i}.self_attention.query_key_value.bias',
    mcore: 'decoder.layers.{i}.self_attention.linear_qkv.bias',
    split: 'qkv',
    shape: ['qkv'],
    at: 'layer',
    only: 'qkvBias',
  },
  {
    hf: ['model.layers.{i}.self_attn.o_proj.weight'],
    legacy: 'encoder.layers.{i}.self_attention.dense.weight',
    mcore: 'decoder.layers.{i}.self_attention.linear_proj.weight',
    split: 'row',
    shape: ['hidden', 'heads'],
    at: 'layer',
  },
  {
    hf: ['model.layers.{i}.post_attention_layernorm.weight'],
    legacy: 'encoder.layers.{i}.post_attention_norm.weight',
    mcore: 'decoder.layers.{i}.pre_mlp_layernorm.weight',
    split: 'replicated',
    shape: ['hidden'],
    at: 'layer',
  },
  {
    hf: ['model.layers.{i}.mlp.gate_proj.weight', 'model.layers.{i}.mlp.up_proj.weight'],
    legacy: 'encoder.layers.{i}.mlp.dense_h_to_4h.weight',
    mcore: 'decoder.layers.{i}.mlp.linear_fc1.weight',
    split: 'gateUp',
    shape: ['gateUp', 'hidden'],
    at: 'layer',
  },
  {
    hf: ['model.layers.{i}.mlp.down_proj.weight'],
    legacy: 'encoder.layers.{i}.mlp.dense_4h_to_h.weight',
    mcore: 'decoder.layers.{i}.mlp.linear_fc2.weight',
    split: 'row',
    shape: ['hidden', 'ffn'],
    at: 'layer',
  },
  {
    hf: ['model.norm.weight'],
    legacy: 'encoder.final_norm.weight',
    mcore: 'decoder.final_layernorm.weight',
    split: 'replicated',
    shape: ['hidden'],
    at: 'last',
  },
  {
    hf: ['lm_head.weight'],
    legacy: 'output_layer.weight',
    mcore: 'output_layer.weight',
    split: 'vocab',
    shape: ['vocab', 'hidden'],
    at: 'last',
    only: 'untied',
  },
]
