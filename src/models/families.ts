import { UnsupportedError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import { llamaRules } from './llama-rules.ts'
import type { WeightRule } from './weight-rule.ts'

/** A group of models that share weight names and a dialect of `config.json`. */
export interface Family {
  /** HF `model_type`. */
  readonly name: string
  readonly rules: readonly WeightRule[]
  /** Whether q, k and v carry a bias. */
  readonly addQkvBias: boolean
  /** Whether `sliding_window` counts when `use_sliding_window` is absent. */
  readonly slidesByDefault: boolean
  /** What the family's configuration class assumes for keys that `config.json` leaves out. */
  readonly defaults: {
    readonly maxPositionEmbeddings: number
    readonly normEpsilon: number
    readonly rotaryBase: number
  }
}

/** Defaults: transformers 4.43, the `configuration_*.py` of each model. */
export const families: readonly Family[] = [
  {
    name: 'llama',
    rules: llamaRules,
    addQkvBias: false,
    slidesByDefault: false,
    defaults: { maxPositionEmbeddings: 2048, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
  {
    name: 'qwen2',
    rules: llamaRules,
    addQkvBias: true,
    slidesByDefault: false,
    defaults: { maxPositionEmbeddings: 32768, normEpsilon: 1e-6, rotaryBase: 10000 },
  },
  {
    name: 'mistral',
    rules: llamaRules,
    addQkvBias: false,
    slidesByDefault: true,
    defaults: { maxPositionEmbeddings: 131072, normEpsilon: 1e-6, rotaryBase: 10000 },
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
  return findFamily(architecture.family).rules.filter(
    rule =>
      (rule.only !== 'qkvBias' || architecture.addQkvBias) && (rule.only !== 'untied' || !architecture.tiedEmbeddings),
  )
}
