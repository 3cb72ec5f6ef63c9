import type { LoraTarget } from '../models/lora-rules.ts'
import type { EngineOptions } from './engine-options.ts'
import type { Sizes } from './sizes.ts'

/** One named tensor and its address. */
export interface Slot {
  readonly name: string
  readonly shape: readonly number[]
  readonly trainable: boolean
  readonly decay: boolean
  readonly address: number
}

/** A weight and, when it is trained, its gradient, as addresses. */
export interface Weight {
  readonly weight: number
  readonly gradient?: number
}

/** y = x·Wᵀ, W [outputs, inputs]. */
export interface Linear extends Weight {
  readonly outputs: number
  readonly inputs: number
  readonly adapter?: Adapter
}

/** y += scale · z·Bᵀ with z = x·Aᵀ; A [r, inputs], B [outputs, r]. */
export interface Adapter {
  readonly r: number
  readonly scale: number
  readonly a: Required<Weight>
  readonly b: Required<Weight>
  /** z and its gradient, [tokens, r]. */
  readonly z: number
  readonly dz: number
  /** Runs of B's rows (Megatron's order) and the columns of y that they make (ours: all q, all k, all v). */
  readonly runs: readonly { readonly row: number; readonly column: number; readonly count: number }[]
}

export interface LayerWeights {
  readonly inputNorm: Weight
  readonly qkv: Linear
  readonly qkvBias?: Weight
  readonly proj: Linear
  readonly postNorm: Weight
  readonly fc1: Linear
  readonly fc2: Linear
}

/** A run of floats that are updated alike. */
export interface Run {
  readonly address: number
  readonly floats: number
}

/**
 * Addresses of all weights. The trained ones lie together, first those that decay; their gradients, first and second
 * moments follow in the same order, each `stride` bytes after the other.
 */
export interface ModelWeights {
  readonly slots: readonly Slot[]
  readonly stride: number
  readonly decaying: Run
  readonly steady: Run
  readonly embedding: Weight
  readonly layers: readonly LayerWeights[]
  readonly finalNorm: Weight
  readonly head: Linear
  readonly weightBytes: number
  readonly end: number
}

type Tensor = Omit<Slot, 'address'> & { readonly follows: boolean }

/** Places the weights of a model from byte `start` on. */
export function placeWeights(options: EngineOptions, sizes: Sizes, start: number): ModelWeights {
  const tensors = listTensors(options, sizes)
  const addresses = new Map<string, number>()
  let end = start
  const place = (belongs: (tensor: Tensor) => boolean): Run => {
    const address = end
    for (const tensor of tensors.filter(belongs)) {
      if (!tensor.follows) end = align(end)
      addresses.set(tensor.name, end)
      end += tensor.shape.reduce((a, b) => a * b, 4)
    }
    end = align(end)
    return { address, floats: (end - address) / 4 }
  }
  const decaying = place(tensor => tensor.trainable && tensor.decay)
  const steady = place(tensor => tensor.trainable && !tensor.decay)
  const stride = end - start
  end += stride * 3
  const frozen = place(tensor => !tensor.trainable)
  const slots = tensors.map(({ follows: _, ...tensor }) => ({ ...tensor, address: addresses.get(tensor.name)! }))
  const byName = new Map(slots.map(slot => [slot.name, slot]))

  const weight = (name: string): Weight => {
    const { address, trainable } = byName.get(name)!
    return trainable ? { weight: address, gradient: address + stride } : { weight: address }
  }
  const trained = (name: string) => weight(name) as Required<Weight>
  const linear = (name: string, outputs: number, inputs: number, layer: number, target: LoraTarget): Linear => {
    const base = { ...weight(name), outputs, inputs }
    if (!options.lora?.targets.includes(target)) return base
    const { r, alpha } = options.lora
    const adapter = `layers.${layer}.${target}.lora`
    const z = end
    const dz = align(z + sizes.tokens * r * 4)
    end = align(dz + sizes.tokens * r * 4)
    const runs = target === 'linear_qkv' ? queryGroupRuns(sizes) : [{ row: 0, column: 0, count: outputs }]
    const factors = { a: trained(`${adapter}_A.weight`), b: trained(`${adapter}_B.weight`) }
    return { ...base, adapter: { r, scale: alpha / r, ...factors, z, dz, runs } }
  }
  const { hidden, ffn, queries, qkv, vocab } = sizes
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerWeights => {
    const prefix = `model.layers.${i}`
    return {
      inputNorm: weight(`${prefix}.input_layernorm.weight`),
      qkv: linear(`${prefix}.self_attn.q_proj.weight`, qkv, hidden, i, 'linear_qkv'),
      ...(options.architecture.addQkvBias && { qkvBias: weight(`${prefix}.self_attn.q_proj.bias`) }),
      proj: linear(`${prefix}.self_attn.o_proj.weight`, hidden, queries, i, 'linear_proj'),
      postNorm: weight(`${prefix}.post_attention_layernorm.weight`),
      fc1: linear(`${prefix}.mlp.gate_proj.weight`, 2 * ffn, hidden, i, 'linear_fc1'),
      fc2: linear(`${prefix}.mlp.down_proj.weight`, hidden, ffn, i, 'linear_fc2'),
    }
  })
  const embedding = weight('model.embed_tokens.weight')
  const head = options.architecture.tiedEmbeddings ? embedding : weight('lm_head.weight')
  return {
    ...{ slots, stride, decaying, steady, embedding, layers },
    finalNorm: weight('model.norm.weight'),
    head: { ...head, outputs: vocab, inputs: hidden },
    weightBytes: stride + frozen.floats * 4,
    end,
  }
}

function align(address: number): number {
  return Math.ceil(address / 64) * 64
}

/** All tensors under Hugging Face's names; one that `follows` makes a fused matrix with the one before it. */
function listTensors({ architecture, lora }: EngineOptions, sizes: Sizes): Tensor[] {
  const { hidden, ffn, queries, keys, vocab } = sizes
  const tensors: Tensor[] = []
  const add = (name: string, shape: readonly number[], options: { follows?: boolean; adapter?: boolean } = {}) =>
    tensors.push({
      ...{ name, shape, decay: shape.length > 1, follows: options.follows ?? false },
      trainable: lora === undefined || options.adapter === true,
    })
  add('model.embed_tokens.weight', [vocab, hidden])
  for (let i = 0; i < sizes.layers; i++) {
    const prefix = `model.layers.${i}`
    add(`${prefix}.input_layernorm.weight`, [hidden])
    add(`${prefix}.self_attn.q_proj.weight`, [queries, hidden])
    add(`${prefix}.self_attn.k_proj.weight`, [keys, hidden], { follows: true })
    add(`${prefix}.self_attn.v_proj.weight`, [keys, hidden], { follows: true })
    if (architecture.addQkvBias) {
      add(`${prefix}.self_attn.q_proj.bias`, [queries])
      add(`${prefix}.self_attn.k_proj.bias`, [keys], { follows: true })
      add(`${prefix}.self_attn.v_proj.bias`, [keys], { follows: true })
    }
    add(`${prefix}.self_attn.o_proj.weight`, [hidden, queries])
    add(`${prefix}.post_attention_layernorm.weight`, [hidden])
    add(`${prefix}.mlp.gate_proj.weight`, [ffn, hidden])
    add(`${prefix}.mlp.up_proj.weight`, [ffn, hidden], { follows: true })
    add(`${prefix}.mlp.down_proj.weight`, [hidden, ffn])
    for (const target of lora?.targets ?? []) {
      const [outputs, inputs] = fusedShape(target, sizes)
      add(`layers.${i}.${target}.lora_A.weight`, [lora!.r, inputs], { adapter: true })
      add(`layers.${i}.${target}.lora_B.weight`, [outputs, lora!.r], { adapter: true })
    }
  }
  add('model.norm.weight', [hidden])
  if (!architecture.tiedEmbeddings) add('lm_head.weight', [vocab, hidden])
  return tensors
}

function fusedShape(
  target: LoraTarget,
  { hidden, ffn, queries, qkv }: Sizes,
): readonly [outputs: number, inputs: number] {
  switch (target) {
    case 'linear_qkv':
      return [qkv, hidden]
    case 'linear_proj':
      return [hidden, queries]
    case 'linear_fc1':
      return [2 * ffn, hidden]
    case 'linear_fc2':
      return [hidden, ffn]
  }
}

/** Megatron fuses q…q k v per query group; our columns are all q, then all k, then all v. */
function queryGroupRuns({ groups, queries, keys, headDim }: Sizes): Adapter['runs'] {
  const perGroup = queries / groups
  return Array.from({ length: groups }, (_, group) => {
    const row = group * (perGroup + 2 * headDim)
    return [
      { row, column: group * perGroup, count: perGroup },
      { row: row + perGroup, column: queries + group * headDim, count: headDim },
      { row: row + perGroup + headDim, column: queries + keys + group * headDim, count: headDim },
    ]
  }).flat()
}
