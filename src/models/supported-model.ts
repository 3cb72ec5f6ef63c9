import { FormatError, InputError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import { type SupportedModel, supportedModels } from './supported-models.ts'

/** The 21 models of the vendor's guide: where their weights are, what they are made of, how they are trained. */
export const models: readonly SupportedModel[] = supportedModels

/** The model called `id`, `llama2-13b` say. @throws InputError naming all that there are. */
export function findModel(id: string): SupportedModel {
  const model = models.find(candidate => candidate.id === id)
  if (model !== undefined) return model
  throw new InputError(`There is no model '${id}'; there are ${models.map(known => known.id).join(', ')}.`)
}

/**
 * Checks that a configuration is the one of a supported model: all that weights and computation depend on. The number
 * of positions is left out; it differs between a model's editions, and nothing but a limit follows from it.
 *
 * @throws FormatError naming the field that differs, with both values.
 */
export function checkModel(id: string, found: Architecture, file: string): void {
  const { architecture } = findModel(id)
  for (const field of checkedFields) {
    if (architecture[field] === found[field]) continue
    const text = (value: unknown): string => (value === undefined ? 'none' : `${value}`)
    throw new FormatError({
      file,
      expected: `${field} ${text(architecture[field])}, as ${id} has`,
      found: text(found[field]),
    })
  }
}

const checkedFields: readonly (keyof Architecture)[] = [
  ...(['family', 'numLayers', 'hiddenSize', 'ffnHiddenSize', 'numAttentionHeads', 'numQueryGroups'] as const),
  ...(['kvChannels', 'vocabSize', 'tiedEmbeddings', 'addQkvBias', 'qkNorm', 'alibi', 'rotaryPercent'] as const),
  ...(['rotaryBase', 'ropeScaling', 'normEpsilon', 'slidingWindow'] as const),
]
