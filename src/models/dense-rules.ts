import type { WeightNames } from './weight-names.ts'
import type { WeightRule } from './weight-rule.ts'

/**
 * The weights of a dense decoder of the Llama kind: what each is made of, and where Megatron has it. All families
 * share this table; they differ in names alone.
 *
 * Source: ModelLink 1.1, tools/checkpoint/loader_llama2_hf.py:99-178; its master, tasks/checkpoint/model_cfg.json
 * `base`. Norms of heads: Megatron-LM core_r0.7.0, core/transformer/attention.py; legacy models have none.
 */
export function denseRules(names: WeightNames): readonly WeightRule[] {
  const weight = (module: string): string => `${module}.weight`
  return [
    {
      hf: [weight(names.embedding)],
      legacy: 'embedding.word_embeddings.weight',
      mcore: 'embedding.word_embeddings.weight',
      split: 'vocab',
      shape: ['vocab', 'hidden'],
      at: 'first',
    },
    {
      hf: [weight(names.inputNorm)],
      legacy: 'encoder.layers.{i}.input_norm.weight',
      mcore: 'decoder.layers.{i}.input_layernorm.weight',
      split: 'replicated',
      shape: ['hidden'],
      at: 'layer',
    },
    {
      hf: names.qkv.map(weight),
      legacy: 'encoder.layers.{i}.self_attention.query_key_value.weight',
      mcore: 'decoder.layers.{i}.self_attention.linear_qkv.weight',
      split: 'qkv',
      shape: ['qkv', 'hidden'],
      at: 'layer',
    },
    {
      hf: names.qkv.map(module => `${module}.bias`),
      legacy: 'encoder.layers.{i}.self_attention.query_key_value.bias',
      mcore: 'decoder.layers.{i}.self_attention.linear_qkv.bias',
      split: 'qkv',
      shape: ['qkv'],
      at: 'layer',
      only: 'qkvBias',
    },
    ...(names.qkNorm ?? []).map(
      (module, i): WeightRule => ({
        hf: [weight(module)],
        mcore: `decoder.layers.{i}.self_attention.${i === 0 ? 'q' : 'k'}_layernorm.weight`,
        split: 'replicated',
        shape: ['head'],
        at: 'layer',
        only: 'qkNorm',
      }),
    ),
    {
      hf: [weight(names.attentionOutput)],
      legacy: 'encoder.layers.{i}.self_attention.dense.weight',
      mcore: 'decoder.layers.{i}.self_attention.linear_proj.weight',
      split: 'row',
      shape: ['hidden', 'heads'],
      at: 'layer',
    },
    {
      hf: [weight(names.postAttentionNorm)],
      legacy: 'encoder.layers.{i}.post_attention_norm.weight',
      mcore: 'decoder.layers.{i}.pre_mlp_layernorm.weight',
      split: 'replicated',
      shape: ['hidden'],
      at: 'layer',
    },
    {
      hf: names.gateUp.map(weight),
      legacy: 'encoder.layers.{i}.mlp.dense_h_to_4h.weight',
      mcore: 'decoder.layers.{i}.mlp.linear_fc1.weight',
      split: 'gateUp',
      shape: ['gateUp', 'hidden'],
      at: 'layer',
    },
    {
      hf: [weight(names.down)],
      legacy: 'encoder.layers.{i}.mlp.dense_4h_to_h.weight',
      mcore: 'decoder.layers.{i}.mlp.linear_fc2.weight',
      split: 'row',
      shape: ['hidden', 'ffn'],
      at: 'layer',
    },
    {
      hf: [weight(names.finalNorm)],
      legacy: 'encoder.final_norm.weight',
      mcore: 'decoder.final_layernorm.weight',
      split: 'replicated',
      shape: ['hidden'],
      at: 'last',
    },
    {
      hf: [weight(names.outputLayer)],
      legacy: 'output_layer.weight',
      mcore: 'output_layer.weight',
      split: 'vocab',
      shape: ['vocab', 'hidden'],
      at: 'last',
      only: 'untied',
    },
  ]
}
