import { UnsupportedError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import { denseRules } from './dense-rules.ts'
import {
  baichuanNames,
  chatglmNames,
  glmNames,
  llamaNames,
  qwen3Names,
  qwenNames,
  type WeightNames,
} from './weight-names.ts'
import type { WeightRule } from './weight-rule.ts'

/** A group of models that share weight names and a dialect of `config.json`. */
export interface Family {
  /** HF `model_type`. */
  readonly name: string
  readonly names: WeightNames
  /** Which keys `config.json` has: those of Llama, of Qwen's first generation, or of ChatGLM. */
  readonly dialect: 'llama' | 'qwen' | 'chatglm'
  /** Whether q, k and v carry a bias; of ChatGLM and GLM, unless `config.json` says otherwise. */
  readonly addQkvBias: boolean
  /** `attention_bias` is about q, k and v alone; elsewhere it is about the output projection too, and not supported. */
  readonly attentionBiasIsQkv?: true
  /** Whether `sliding_window` counts when `use_sliding_window` is absent. */
  readonly slidesByDefault: boolean
  /** What the family's configuration class assumes for keys that `config.json` leaves out. */
  readonly defaults: {
    readonly maxPositionEmbeddings: number
    readonly normEpsilon: number
    readonly rotaryBase: number
    /** Only where it is not `hidden_size / num_attention_heads`. */
    readonly kvChannels?: number
    /** Only where RoPE does not turn all of a head. */
    readonly rotaryPercent?: number
  }
}

const plain = { names: llamaNames, dialect: 'llama', addQkvBias: false, slidesByDefault: false } as const

/**
 * Defaults: transformers 4.43 (Qwen3 4.51, GLM 4.46), the `configuration_*.py` of each model; for Qwen, ChatGLM and
 * Baichuan those beside the published weights.
 */
export const families: readonly Family[] = [
  { ...plain, name: 'llama', defaults: { maxPositionEmbeddings: 2048, normEpsilon: 1e-6, rotaryBase: 10000 } },
  {
    ...plain,
    name: 'mistral',
    slidesByDefault: true,
    defaults: { maxPositionEmbeddings: 131072, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
  {
    ...plain,
    name: 'qwen2',
    addQkvBias: true,
    defaults: { maxPositionEmbeddings: 32768, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
  {
    ...plain,
    name: 'qwen3',
    names: qwen3Names,
    defaults: { maxPositionEmbeddings: 32768, normEpsilon: 1e-6, rotaryBase: 10000, kvChannels: 128 },
  },
  {
    ...plain,
    name: 'qwen',
    names: qwenNames,
    dialect: 'qwen',
    addQkvBias: true,
    defaults: { maxPositionEmbeddings: 8192, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
  {
    ...plain,
    name: 'chatglm',
    names: chatglmNames,
    dialect: 'chatglm',
    defaults: { maxPositionEmbeddings: 2048, normEpsilon: 1e-5, rotaryBase: 10000, rotaryPercent: 0.5 },
  },
  {
    ...plain,
    name: 'glm',
    names: glmNames,
    addQkvBias: true,
    attentionBiasIsQkv: true,
    defaults: {
      ...{ maxPositionEmbeddings: 131072, normEpsilon: 1.5625e-7, rotaryBase: 10000 },
      ...{ kvChannels: 128, rotaryPercent: 0.5 },
    },
  },
  {
    ...plain,
    name: 'baichuan',
    names: baichuanNames,
    defaults: { maxPositionEmbeddings: 4096, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
]

/** The family called `name`; throws UnsupportedError naming those that there are. */
export function findFamily(name: string): Family {
  const family = families.find(candidate => candidate.name === name)
  if (family !== undefined) return family
  throw new UnsupportedError(
    `Models of type '${name}' are not supported; ${families.map(known => known.name).join(', ')} are.`,
  )
}

/** The weight rules that apply to a model: those of its family, without the ones for properties that it lacks. */
export function weightRules(architecture: Architecture): readonly WeightRule[] {
  const has = { qkvBias: architecture.addQkvBias, qkNorm: architecture.qkNorm, untied: !architecture.tiedEmbeddings }
  return denseRules(findFamily(architecture.family).names).filter(({ only }) => only === undefined || has[only])
}
