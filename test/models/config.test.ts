import { expect, test } from 'vitest'
import { FormatError, UnsupportedError } from '../../src/errors.ts'
import { architectureFromConfig } from '../../src/models/config.ts'

// meta-llama/Llama-2-7b-hf and Qwen/Qwen2-0.5B as published, the third as transformers 5 writes it.
const llama2 = {
  ...{
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: 4096,
    intermediate_size: 11008,
    max_position_embeddings: 4096,
  },
  ...{
    num_attention_heads: 32,
    num_hidden_layers: 32,
    num_key_value_heads: 32,
    rms_norm_eps: 1e-5,
    rope_scaling: null,
  },
  ...{ tie_word_embeddings: false, vocab_size: 32000 },
}
const qwen2 = {
  ...{
    model_type: 'qwen2',
    hidden_act: 'silu',
    hidden_size: 896,
    intermediate_size: 4864,
    max_position_embeddings: 131072,
  },
  ...{
    num_attention_heads: 14,
    num_hidden_layers: 24,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-6,
    rope_theta: 1000000.0,
  },
  ...{ tie_word_embeddings: true, vocab_size: 151936, sliding_window: 131072, use_sliding_window: false },
}

test('Llama 2 without rope_theta and head_dim takes the defaults of its family', () => {
  expect(architectureFromConfig(llama2)).toEqual({
    ...{
      family: 'llama',
      numLayers: 32,
      hiddenSize: 4096,
      ffnHiddenSize: 11008,
      numAttentionHeads: 32,
      numQueryGroups: 32,
    },
    ...{ kvChannels: 128, vocabSize: 32000, maxPositionEmbeddings: 4096, normEpsilon: 1e-5, rotaryBase: 10000 },
    ...{ tiedEmbeddings: false, addQkvBias: false },
  })
})

test('Qwen2 has biases on query, key and value, and ties its embeddings when it says so', () => {
  expect(architectureFromConfig(qwen2)).toEqual({
    ...{
      family: 'qwen2',
      numLayers: 24,
      hiddenSize: 896,
      ffnHiddenSize: 4864,
      numAttentionHeads: 14,
      numQueryGroups: 2,
    },
    ...{ kvChannels: 64, vocabSize: 151936, maxPositionEmbeddings: 131072, normEpsilon: 1e-6, rotaryBase: 1e6 },
    ...{ tiedEmbeddings: true, addQkvBias: true },
  })
})

test.each<[string, object, object]>([
  ['a head_dim of its own', { ...llama2, head_dim: 80 }, { kvChannels: 80 }],
  [
    'rope_theta in rope_parameters',
    { ...llama2, rope_parameters: { rope_theta: 500000, rope_type: 'default' } },
    { rotaryBase: 500000 },
  ],
  ['scaled RoPE', { ...llama2, rope_scaling: { rope_type: 'llama3', factor: 8 } }, { ropeScaling: 'llama3' }],
  [
    'scaled RoPE in the older spelling',
    { ...llama2, rope_scaling: { type: 'linear', factor: 2 } },
    { ropeScaling: 'linear' },
  ],
  [
    "Mistral's attention window",
    { ...llama2, model_type: 'mistral', sliding_window: 4096 },
    { family: 'mistral', slidingWindow: 4096 },
  ],
  ["Qwen2's attention window", { ...qwen2, use_sliding_window: true }, { slidingWindow: 131072 }],
  [
    'as many groups as heads when num_key_value_heads is absent',
    { ...llama2, num_key_value_heads: null },
    { numQueryGroups: 32 },
  ],
])('%s is read', (_, config, expected) => {
  expect(architectureFromConfig(config)).toMatchObject(expected)
})

test.each<[string, unknown, RegExp]>([
  [
    'a model type that no family has',
    { ...llama2, model_type: 'gpt2' },
    /'gpt2' are not supported; llama, mistral, qwen2, qwen3, qwen, chatglm, glm, baichuan are/,
  ],
  ['bias on all attention layers', { ...llama2, attention_bias: true }, /attention_bias is true/],
  ['bias on feed-forward layers', { ...llama2, mlp_bias: true }, /mlp_bias is true/],
  ['another activation', { ...llama2, hidden_act: 'gelu' }, /hidden_act is 'gelu'/],
])('%s is not supported', (_, config, message) => {
  expect(() => architectureFromConfig(config)).toThrow(UnsupportedError)
  expect(() => architectureFromConfig(config)).toThrow(message)
})

test.each<[string, unknown, RegExp]>([
  ['no model type', {}, /expected a model_type/],
  ['no object', 'llama', /expected a model_type/],
  ['no number of layers', { ...llama2, num_hidden_layers: undefined }, /num_hidden_layers/],
  ['a billion layers', { ...llama2, num_hidden_layers: 1e9 }, /num_hidden_layers/],
  ['layers that are not whole', { ...llama2, num_hidden_layers: 1.5 }, /num_hidden_layers/],
  [
    'heads that the groups do not divide',
    { ...llama2, num_key_value_heads: 5 },
    /\(32\) to be a multiple of num_key_value_heads, found 5/,
  ],
  [
    'heads that do not divide hidden_size',
    { ...llama2, num_attention_heads: 33, num_key_value_heads: 33 },
    /hidden_size \(4096\).*33 heads/,
  ],
])('%s is refused', (_, config, message) => {
  expect(() => architectureFromConfig(config, { file: 'm/config.json' })).toThrow(FormatError)
  expect(() => architectureFromConfig(config, { file: 'm/config.json' })).toThrow(message)
})

const chatglm = {
  ...{ model_type: 'chatglm', num_layers: 28, hidden_size: 4096, ffn_hidden_size: 13696, num_attention_heads: 32 },
  ...{ multi_query_attention: true, multi_query_group_num: 2, padded_vocab_size: 65024, add_qkv_bias: true },
}
const qwen = {
  ...{ model_type: 'qwen', num_hidden_layers: 32, hidden_size: 4096, intermediate_size: 22016, vocab_size: 151936 },
  num_attention_heads: 32,
}

test.each<[string, object, object]>([
  ['ChatGLM without groups', { ...chatglm, multi_query_attention: false }, { numQueryGroups: 32 }],
  ['ChatGLM without biases', { ...chatglm, add_qkv_bias: undefined }, { addQkvBias: false, rotaryPercent: 0.5 }],
  ["the halves of Qwen's gated layer", qwen, { ffnHiddenSize: 11008, addQkvBias: true, rotaryBase: 10000 }],
  [
    'heads of Qwen3, which do not make up the hidden size',
    { ...llama2, model_type: 'qwen3', hidden_size: 1024 },
    { kvChannels: 128, qkNorm: true, addQkvBias: false },
  ],
  [
    'GLM of transformers',
    { ...llama2, model_type: 'glm', num_key_value_heads: 2 },
    { addQkvBias: true, rotaryPercent: 0.5, kvChannels: 128 },
  ],
  ['GLM without biases', { ...llama2, model_type: 'glm', attention_bias: false }, { addQkvBias: false }],
  ['Baichuan 7B, which has RoPE', { ...llama2, model_type: 'baichuan' }, { maxPositionEmbeddings: 4096 }],
])('%s is read', (_, config, expected) => {
  expect(architectureFromConfig(config)).toMatchObject(expected)
})

test.each<[string, object, RegExp]>([
  ['biases on all linear layers of ChatGLM', { ...chatglm, add_bias_linear: true }, /add_bias_linear is true/],
  ['another norm in ChatGLM', { ...chatglm, rmsnorm: false }, /rmsnorm is false/],
  ['biases on all linear layers of Qwen', { ...qwen, no_bias: false }, /no_bias is false/],
  ['an odd width of Qwen', { ...qwen, intermediate_size: 22017 }, /intermediate_size/],
  [
    'groups that do not divide the heads',
    { ...chatglm, multi_query_group_num: 5 },
    /multiple of multi_query_group_num/,
  ],
  ['the first ChatGLM', { ...chatglm, padded_vocab_size: undefined }, /padded_vocab_size/],
])('%s: refused', (_, config, message) => {
  expect(() => architectureFromConfig(config)).toThrow(message)
})
