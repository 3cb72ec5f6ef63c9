import { FormatError, UnsupportedError } from '../errors.ts'
import { isFloatDtype } from '../formats/float-dtype.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { readArchitecture } from '../models/config.ts'
import { weightRules } from '../models/families.ts'
import { blockBytes } from './block-copy.ts'
import { isConstant, openHfWeights } from './hf-weights.ts'
import { planWeight } from './weight-plan.ts'

/** The weights of a Hugging Face folder, each checked against the model's rules. */
export interface HfModelSource extends TensorSource {
  readonly architecture: Architecture
}

/**
 * Opens a Hugging Face folder (see `openHfWeights`). Reads `config.json` and headers, and checks that the tensors
 * are exactly those that the model's family has, with the shapes that its numbers give.
 *
 * Two extras are known and left out: `rotary_emb.inv_freq` and its like, which training does not know, and in a
 * tied model an output layer that equals the embedding (it is read here, in blocks, to make sure).
 * @throws FormatError naming the tensor that is unknown, missing, or of another shape; UnsupportedError for weights
 * that are not floating point.
 */
export async function openHfModel(dir: string): Promise<HfModelSource> {
  const architecture = await readArchitecture(dir)
  const source = await openHfWeights(dir)
  try {
    const expected = hfTensors(architecture)
    const tensors = new Map<string, TensorInfo>()
    for (const [name, info] of source.tensors) {
      const shape = expected.get(name)
      if (shape === undefined) {
        if (isConstant(name)) continue
        if (await isTiedCopy(source, { name, architecture, dir })) continue
        throw new FormatError({
          file: dir,
          expected: `only tensors of a ${architecture.family} model`,
          found: `'${name}', which no rule knows`,
        })
      }
      if (`${info.shape}` !== `${shape}`) {
        throw new FormatError({
          file: dir,
          expected: `tensor '${name}' of shape [${shape}], as config.json says`,
          found: `[${info.shape}]`,
        })
      }
      if (!isFloatDtype(info.dtype)) {
        throw new UnsupportedError(
          `${dir}: tensor '${name}' has type ${info.dtype}; weights in BF16, F16 and F32 are read.`,
        )
      }
      tensors.set(name, info)
    }
    for (const name of expected.keys()) {
      if (!tensors.has(name)) throw new FormatError({ file: dir, expected: `tensor '${name}'`, found: 'none' })
    }
    return { architecture, tensors, readRows: source.readRows, close: source.close }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Names and shapes of a model's Hugging Face tensors, in the order of the family's rules. */
export function hfTensors(architecture: Architecture): ReadonlyMap<string, readonly number[]> {
  const rules = weightRules(architecture)
  const numbers = { architecture, tp: 1, paddedVocabSize: architecture.vocabSize }
  const shapes = new Map<string, readonly number[]>()
  const add = (rule: (typeof rules)[number], layer?: number): void => {
    for (const part of planWeight(rule, { ...numbers, layer }).parts) shapes.set(part.name, part.shape)
  }
  for (const rule of rules) if (rule.at === 'first') add(rule)
  for (let layer = 0; layer < architecture.numLayers; layer++) {
    for (const rule of rules) if (rule.at === 'layer') add(rule, layer)
  }
  for (const rule of rules) if (rule.at === 'last') add(rule)
  return shapes
}

async function isTiedCopy(
  source: TensorSource,
  options: { name: string; architecture: Architecture; dir: string },
): Promise<boolean> {
  const { name, architecture, dir } = options
  if (!architecture.tiedEmbeddings) return false
  const untied = weightRules({ ...architecture, tiedEmbeddings: false })
  const embedding = untied.find(rule => rule.at === 'first' && rule.split === 'vocab')!.hf[0]!
  if (!untied.some(rule => rule.only === 'untied' && rule.hf[0] === name)) return false
  const [a, b] = [source.tensors.get(embedding), source.tensors.get(name)]
  if (a === undefined || b === undefined || `${a.dtype},${a.shape}` !== `${b.dtype},${b.shape}`) return false
  const step = Math.max(1, Math.floor(blockBytes / ((a.shape[1] ?? 1) * dtypeBytes[a.dtype])))
  for (let row = 0; row < a.shape[0]!; row += step) {
    const end = Math.min(row + step, a.shape[0]!)
    // Both tensors may lie in one file, whose buffer the second reading would overwrite.
    const first = Buffer.from(await source.readRows(embedding, row, end))
    if (first.equals(await source.readRows(name, row, end))) continue
    const found = `another value in rows ${row} to ${end}`
    throw new FormatError({
      file: dir,
      expected: `'${name}' to equal '${embedding}', since tie_word_embeddings is true`,
      found,
    })
  }
  return true
}
