/** The `config.json` of a small Llama with a vocabulary of `vocabSize` tokens. */
export function llamaConfig(vocabSize: number) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabSize,
    hidden_size: 128,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    intermediate_size: 352,
    max_position_embeddings: 512,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    initializer_range: 0.02,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  }
}

/** A tensor in memory; `data` is row-major and little-endian. */
export interface Tensor {
  readonly name: string
  readonly dtype: 'BF16'
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/**
 * The tensors of a fresh model in bf16, the same ones for the same `seed`.
 *
 * Norms are 1, all else is normal(0, 0.02); what adds to the residual stream is scaled by 1 / √(2 · layers).
 */
export function initialWeights(config: ReturnType<typeof llamaConfig>, seed: number): Tensor[] {
  const { hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: layers } = config
  const normal = normalNumbers(seed)
  const matrix = (name: string, rows: number, columns: number, std = 0.02) => {
    const values = Float32Array.from({ length: rows * columns }, () => std * normal())
    return tensor(name, [rows, columns], values)
  }
  const ones = (name: string) => tensor(name, [hidden], new Float32Array(hidden).fill(1))
  const residualStd = 0.02 / Math.sqrt(2 * layers)
  const kv = (hidden / config.num_attention_heads) * config.num_key_value_heads
  const layer = (prefix: string) => [
    ones(`${prefix}.input_layernorm.weight`),
    matrix(`${prefix}.self_attn.q_proj.weight`, hidden, hidden),
    matrix(`${prefix}.self_attn.k_proj.weight`, kv, hidden),
    matrix(`${prefix}.self_attn.v_proj.weight`, kv, hidden),
    matrix(`${prefix}.self_attn.o_proj.weight`, hidden, hidden, residualStd),
    ones(`${prefix}.post_attention_layernorm.weight`),
    matrix(`${prefix}.mlp.gate_proj.weight`, intermediate, hidden),
    matrix(`${prefix}.mlp.up_proj.weight`, intermediate, hidden),
    matrix(`${prefix}.mlp.down_proj.weight`, hidden, intermediate, residualStd),
  ]
  return [
    matrix('model.embed_tokens.weight', config.vocab_size, hidden),
    ...Array.from({ length: layers }, (_, index) => layer(`model.layers.${index}`)).flat(),
    ones('model.norm.weight'),
    matrix('lm_head.weight', config.vocab_size, hidden),
  ]
}

function tensor(name: string, shape: readonly number[], values: Float32Array): Tensor {
  const bits = new Uint32Array(values.buffer)
  // Round to nearest, ties to even: bf16 is the upper half of a float32.
  const data = Uint16Array.from(bits, word => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
  return { name, dtype: 'BF16', shape, data: new Uint8Array(data.buffer) }
}

/**
 * Normal numbers: twelve uniform ones (mulberry32) less six have mean 0 and variance 1. Sums are the same bits on every
 * machine, the logarithms of Box-Muller need not be.
 */
function normalNumbers(seed: number): () => number {
  let state = seed >>> 0
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return () => Array.from({ length: 12 }, uniform).reduce((sum, x) => sum + x, -6)
}
