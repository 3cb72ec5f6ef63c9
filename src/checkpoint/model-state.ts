import { FormatError } from '../errors.ts'
import { dictEntries, type PickleValue } from '../formats/pickle-value.ts'
import type { TorchFile } from '../formats/torch-file.ts'
import type { MegatronLayout } from './stage-weights.ts'

/** The state dicts of one file: flat, one for each virtual stage (a single one without). */
export interface ModelState {
  readonly layout: MegatronLayout
  readonly chunks: readonly Map<string, PickleValue>[]
}

/** The state dicts of a checkpoint file with their nested keys joined by dots, `language_model` left out. */
export function flattenModel(file: TorchFile): ModelState {
  const top = dictEntries(file.value)
  const refuse: (expected: string, found: string) => never = (expected, found) => {
    throw new FormatError({ file: file.path, expected, found })
  }
  if (top === undefined) refuse('a dict', 'something else')
  const names = [...top.keys()].filter(key => typeof key === 'string' && /^model\d*$/.test(key))
  const isSingle = names.length === 1 && names[0] === 'model'
  const expected = isSingle ? names : names.map((_, chunk) => `model${chunk}`)
  if (names.length === 0 || !expected.every(name => names.includes(name))) {
    refuse("'model', or 'model0', 'model1', … for virtual stages", names.join(', ') || 'none of them')
  }
  const dicts = expected.map(name => dictEntries(top.get(name!)) ?? refuse(`a dict '${name}'`, 'something else'))
  const isLegacy = dicts[0]!.has('language_model')
  const chunks = dicts.map(dict => {
    const flat = new Map<string, PickleValue>()
    const add = (entries: ReadonlyMap<PickleValue, PickleValue>, prefix: string): void => {
      for (const [key, value] of entries) {
        if (typeof key !== 'string') refuse('names of weights', 'something else')
        const isModel = isLegacy && prefix === '' && key === 'language_model'
        const below = dictEntries(value)
        // Adapters on Megatron-Core modules rename the frozen weight (PEFT); it is the same weight.
        const name = `${prefix}${key}`.replace('.base_layer.', '.')
        if (name.length > 1000) refuse('names of up to 1000 characters', `${name.length} characters`)
        if (below !== undefined) add(below, isModel ? '' : `${prefix}${key}.`)
        else if (flat.has(name)) refuse('every weight once', `'${name}' twice`)
        else flat.set(name, value)
      }
    }
    add(dict, '')
    return flat
  })
  return { layout: isLegacy ? 'legacy' : 'mcore', chunks }
}

/**
 * The global numbers of the layers in each stage and chunk, from the layers that the files hold: one after another,
 * in shares of any size, or with virtual stages in turns (see `stageLayers`), in equal shares.
 */
export function layersHeld(
  stages: readonly { readonly chunks: readonly ReadonlyMap<string, PickleValue>[]; readonly file: string }[],
  numLayers: number,
): readonly (readonly (readonly number[])[])[] {
  const counts = stages.map(({ chunks, file }) => chunks.map(chunk => countLayers(chunk, file)))
  const chunkCount = counts[0]!.length
  counts.forEach((stage, i) => {
    const isEven = chunkCount === 1 || stage.every(count => count === counts[0]![0])
    if (stage.length === chunkCount && isEven) return
    const expected = `${chunkCount} virtual stages of ${counts[0]![0]} layers, as in the first stage`
    throw new FormatError({ file: stages[i]!.file, expected, found: `${stage.length} of ${stage.join(', ')}` })
  })
  const total = counts.flat().reduce((a, b) => a + b, 0)
  if (total !== numLayers)
    throw new FormatError({ file: stages[0]!.file, expected: `${numLayers} layers in all stages`, found: `${total}` })
  // Chunk by chunk through all stages is the order of the layers, also with a single chunk.
  const layers: number[][][] = stages.map(() => [])
  let next = 0
  for (let chunk = 0; chunk < chunkCount; chunk++) {
    for (const [stage, of] of counts.entries()) {
      layers[stage]!.push(Array.from({ length: of[chunk]! }, () => next++))
    }
  }
  return layers
}

function countLayers(chunk: ReadonlyMap<string, PickleValue>, file: string): number {
  const numbers = new Set(
    [...chunk.keys()].flatMap(key => /^(?:encoder|decoder)\.layers\.(\d+)\./.exec(key)?.[1] ?? []),
  )
  for (let layer = 0; layer < numbers.size; layer++) {
    if (!numbers.has(String(layer)))
      throw new FormatError({ file, expected: `layers 0 to ${numbers.size - 1}`, found: `no layer ${layer}` })
  }
  return numbers.size
}
