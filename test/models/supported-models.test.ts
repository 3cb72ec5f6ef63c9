import { describe, expect, it, test } from 'vitest'
import { hfTensors } from '../../src/checkpoint/open-hf-model.ts'
import { FormatError, InputError } from '../../src/errors.ts'
import { checkModelLayout } from '../../src/layout/parallel-layout.ts'
import { architectureFromConfig } from '../../src/models/config.ts'
import { recommended } from '../../src/models/recommended.ts'
import { checkModel, findModel, models } from '../../src/models/supported-model.ts'

// The number of parameters that Hugging Face shows for the published safetensors (without GLM's 32 of inv_freq).
const parameters: Readonly<Record<string, number>> = {
  'llama2-7b': 6_738_415_616,
  'llama2-13b': 13_015_864_320,
  'llama2-70b': 68_976_648_192,
  'llama3-8b': 8_030_261_248,
  'llama3-70b': 70_553_706_496,
  'qwen-7b': 7_721_324_544,
  'qwen-14b': 14_167_290_880,
  'qwen-72b': 72_287_920_128,
  'qwen1.5-7b': 7_721_324_544,
  'qwen1.5-14b': 14_167_290_880,
  'qwen1.5-32b': 32_512_218_112,
  'qwen1.5-72b': 72_287_920_128,
  'yi-6b': 6_061_035_520,
  'yi-34b': 34_388_917_248,
  'glm3-6b': 6_243_584_000,
  'baichuan2-13b': 13_896_668_160,
  'qwen2-0.5b': 494_032_768,
  'qwen2-1.5b': 1_543_714_304,
  'qwen2-7b': 7_615_616_512,
  'qwen2-72b': 72_706_203_648,
  'glm4-9b': 9_399_951_360,
}

test('there are the 21 models of the guide, each with as many parameters as were published', () => {
  const counted = models.map(({ id, architecture }) => {
    const shapes = [...hfTensors(architecture).values()]
    return [id, shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0)]
  })
  expect(Object.fromEntries(counted)).toEqual(parameters)
  expect(models.map(({ id }) => id)).toEqual(Object.keys(parameters))
})

test('the first 16 have layouts for 4096 and 8192 tokens that they can be cut for, on as many devices as there are', () => {
  const withLayouts = models.filter(({ recommendedLayouts }) => recommendedLayouts.length > 0)
  expect(withLayouts.map(({ id }) => id)).toEqual(models.slice(0, 16).map(({ id }) => id))
  for (const { architecture, recommendedLayouts } of withLayouts) {
    expect(recommendedLayouts.map(({ seqLength }) => seqLength)).toEqual([4096, 8192])
    for (const { tp, pp, nodes, devicesPerNode } of recommendedLayouts) {
      checkModelLayout(architecture, { tp, pp })
      expect((nodes * devicesPerNode) % (tp * pp)).toBe(0)
    }
  }
})

// The vendor's guide to training on ModelArts (6.3.905), table 2: tp, pp, nodes and devices of a node.
const table2: readonly (readonly [models: string, at4096: string, at8192: string])[] = [
  ['llama2-7b llama3-8b qwen-7b qwen1.5-7b yi-6b glm3-6b', '4 1 1 4', '4 1 1 4'],
  ['llama2-13b qwen-14b qwen1.5-14b baichuan2-13b', '8 1 1 8', '8 1 1 8'],
  ['qwen1.5-32b yi-34b', '8 2 2 8', '8 2 2 8'],
  ['llama2-70b llama3-70b qwen-72b qwen1.5-72b', '8 4 4 8', '8 8 8 8'],
]

test('the first 16 are recommended as the guide prints them', () => {
  const printed = table2.flatMap(([ids, ...sizes]) => ids.split(' ').map(id => [id, sizes] as const))
  const ours = models.slice(0, 16).map(({ id }) => {
    const rows = [4096, 8192].map(seqLength => recommended(id, seqLength))
    expect(rows.map(({ source }) => source)).toEqual(['guide', 'guide'])
    return [id, rows.map(({ tp, pp, nodes, devicesPerNode }) => `${tp} ${pp} ${nodes} ${devicesPerNode}`)]
  })
  expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(printed))
})

// As published, without keys that nothing here depends on.
const published: Readonly<Record<string, Record<string, unknown>>> = {
  'llama2-7b': {
    ...{ model_type: 'llama', hidden_act: 'silu', hidden_size: 4096, intermediate_size: 11008, vocab_size: 32000 },
    ...{ max_position_embeddings: 4096, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 32 },
    ...{ rms_norm_eps: 1e-5, rope_scaling: null, tie_word_embeddings: false, torch_dtype: 'float16' },
  },
  'llama3-70b': {
    ...{ model_type: 'llama', attention_bias: false, hidden_act: 'silu', hidden_size: 8192, vocab_size: 128256 },
    ...{ intermediate_size: 28672, max_position_embeddings: 8192, num_attention_heads: 64, num_hidden_layers: 80 },
    ...{ num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_theta: 500000.0, tie_word_embeddings: false },
  },
  'qwen-14b': {
    ...{ model_type: 'qwen', hidden_size: 5120, intermediate_size: 27392, kv_channels: 128, vocab_size: 152064 },
    ...{ layer_norm_epsilon: 1e-6, max_position_embeddings: 8192, no_bias: true, num_attention_heads: 40 },
    ...{ num_hidden_layers: 40, rotary_emb_base: 10000, rotary_pct: 1.0, seq_length: 2048, tie_word_embeddings: false },
    ...{ use_dynamic_ntk: true, use_logn_attn: true, bf16: true, fp16: false, fp32: false },
  },
  'qwen1.5-32b': {
    ...{ model_type: 'qwen2', hidden_act: 'silu', hidden_size: 5120, intermediate_size: 27392, vocab_size: 152064 },
    ...{ max_position_embeddings: 32768, max_window_layers: 35, num_attention_heads: 40, num_hidden_layers: 64 },
    ...{ num_key_value_heads: 8, rms_norm_eps: 1e-6, rope_theta: 1000000.0, sliding_window: 32768 },
    ...{ tie_word_embeddings: false, use_sliding_window: false },
  },
  'yi-34b': {
    ...{ model_type: 'llama', hidden_act: 'silu', hidden_size: 7168, intermediate_size: 20480, vocab_size: 64000 },
    ...{ max_position_embeddings: 4096, num_attention_heads: 56, num_hidden_layers: 60, num_key_value_heads: 8 },
    ...{ rms_norm_eps: 1e-5, rope_theta: 5000000.0, tie_word_embeddings: false },
  },
  'glm3-6b': {
    ...{ model_type: 'chatglm', add_bias_linear: false, add_qkv_bias: true, ffn_hidden_size: 13696 },
    ...{ apply_residual_connection_post_layernorm: false, hidden_size: 4096, kv_channels: 128 },
    ...{ layernorm_epsilon: 1e-5, multi_query_attention: true, multi_query_group_num: 2, num_attention_heads: 32 },
    ...{ num_layers: 28, original_rope: true, padded_vocab_size: 65024, post_layer_norm: true, rmsnorm: true },
    ...{ seq_length: 8192, tie_word_embeddings: false },
  },
  'glm4-9b': {
    ...{ model_type: 'chatglm', add_bias_linear: false, add_qkv_bias: true, ffn_hidden_size: 13696 },
    ...{ apply_residual_connection_post_layernorm: false, hidden_size: 4096, kv_channels: 128 },
    ...{ layernorm_epsilon: 0.00000015625, multi_query_attention: true, multi_query_group_num: 2 },
    ...{ num_attention_heads: 32, num_layers: 40, original_rope: true, padded_vocab_size: 151552 },
    ...{ post_layer_norm: true, rmsnorm: true, rope_ratio: 500, seq_length: 131072, vocab_size: 151552 },
  },
  'baichuan2-13b': {
    ...{ model_type: 'baichuan', hidden_act: 'silu', hidden_size: 5120, intermediate_size: 13696 },
    ...{ model_max_length: 4096, num_attention_heads: 40, num_hidden_layers: 40, rms_norm_eps: 1e-6 },
    ...{ tie_word_embeddings: false, vocab_size: 125696 },
  },
  'qwen2-0.5b': {
    ...{ model_type: 'qwen2', hidden_act: 'silu', hidden_size: 896, intermediate_size: 4864, vocab_size: 151936 },
    ...{ max_position_embeddings: 32768, max_window_layers: 24, num_attention_heads: 14, num_hidden_layers: 24 },
    ...{ num_key_value_heads: 2, rms_norm_eps: 1e-6, rope_theta: 1000000.0, sliding_window: 32768 },
    ...{ tie_word_embeddings: true, use_sliding_window: false },
  },
}

describe('a published config.json', () => {
  it.each(Object.entries(published))('of %s says what is known of it', (id, config) => {
    const found = architectureFromConfig(config)
    expect(found).toEqual(findModel(id).architecture)
    checkModel(id, found, 'config.json')
  })

  it.each([
    ['llama2-7b', { num_hidden_layers: 40 }, 'expected numLayers 32, as llama2-7b has, found 40'],
    ['llama2-7b', { rms_norm_eps: 1e-6 }, 'expected normEpsilon 0.00001, as llama2-7b has, found 0.000001'],
    ['qwen-14b', { intermediate_size: 22016 }, 'expected ffnHiddenSize 13696, as qwen-14b has, found 11008'],
    ['glm4-9b', { rope_ratio: 1 }, 'expected rotaryBase 5000000, as glm4-9b has, found 10000'],
    ['baichuan2-13b', { max_position_embeddings: 4096 }, 'expected alibi true, as baichuan2-13b has, found none'],
  ] as const)('that differs from %s in %j is refused by the field', (id, edit, message) => {
    const found = architectureFromConfig({ ...published[id], ...edit })
    expect(() => checkModel(id, found, 'm/config.json')).toThrow(FormatError)
    expect(() => checkModel(id, found, 'm/config.json')).toThrow(message)
  })
})

test('a model that there is not is refused with those that there are', () => {
  expect(() => findModel('llama2-8b')).toThrow(InputError)
  expect(() => findModel('llama2-8b')).toThrow(/no model 'llama2-8b'; there are llama2-7b, .*, glm4-9b\.$/)
})
