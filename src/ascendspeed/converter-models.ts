import { UnsupportedError } from '../errors.ts'
import type { Architecture } from '../models/architecture.ts'
import { type Generation, generationFacts } from './generations.ts'

/** How a generation's converter is told which model it has before it. */
export type ConverterModel =
  | {
      readonly framework: 'old'
      readonly loader: 'llama2_hf' | 'qwen_hf' | 'chatglm3_hf'
      readonly saver: 'saver_megatron'
      readonly saveModelType: string
      /** The one type that the loader stores. */
      readonly dtype?: 'fp16'
    }
  | {
      readonly framework: 'new'
      readonly loader: 'hf'
      readonly saver: 'saver'
      readonly modelTypeHf: string
      readonly dtype?: never
    }

const old = { framework: 'old', saver: 'saver_megatron' } as const
const llama = { ...old, loader: 'llama2_hf', saveModelType: 'save_huggingface_llama' } as const

/** Loaders of ModelLink 1.0 and 1.1 by family. Source: tools/checkpoint/saver_megatron.py:744-775 and the READMEs. */
const oldLoaders: Readonly<Record<string, ConverterModel>> = {
  llama,
  qwen2: llama,
  baichuan: llama,
  qwen: { ...old, loader: 'qwen_hf', saveModelType: 'save_huggingface_qwen', dtype: 'fp16' },
  chatglm: { ...old, loader: 'chatglm3_hf', saveModelType: 'save_huggingface_chatglm3' },
}

/** `--model-type-hf` by family. Source: RC3, modellink/tasks/checkpoint/model_cfg.json. */
const modelTypes: Readonly<Record<string, string>> = {
  llama: 'llama2',
  qwen2: 'llama2',
  baichuan: 'baichuan2',
  qwen: 'qwen',
  chatglm: 'chatglm3',
}

/**
 * How the converter of `generation` is told about a model.
 * @throws UnsupportedError naming what it does not know, or converts wrongly.
 */
export function converterModel(
  generation: Generation,
  { architecture, layout }: { readonly architecture: Architecture; readonly layout: 'legacy' | 'mcore' },
): ConverterModel {
  refuseModel(generation, { architecture, layout })
  const { family, ffnHiddenSize, tiedEmbeddings } = architecture
  const { title } = generationFacts[generation]
  if (generation === 'modellink-1.0' && tiedEmbeddings)
    throw new UnsupportedError(`${title}'s converter gives every model an output layer; this one's is its embedding.`)
  if (generation === 'modellink-rc3' && family === 'qwen' && ffnHiddenSize !== 11008)
    throw new UnsupportedError(`${title}'s converter takes every Qwen's ffn for 11008 wide; this is ${ffnHiddenSize}.`)
  if (generation === 'modellink-1.0' || generation === 'modellink-1.1') return oldLoaders[family]!
  return { framework: 'new', loader: 'hf', saver: 'saver', modelTypeHf: modelTypes[family]! }
}

/**
 * Refuses a model that a generation cannot convert or train.
 * @throws UnsupportedError naming what it does not know.
 */
export function refuseModel(
  generation: Generation,
  { architecture, layout }: { readonly architecture: Architecture; readonly layout: 'legacy' | 'mcore' },
): void {
  const { family, ropeScaling, qkNorm } = architecture
  const { title, layouts } = generationFacts[generation]
  const first = generation === 'modellink-1.0'
  const before = first || generation === 'modellink-1.1'
  const glm4 = isGlm4(architecture)
  const refusals: readonly (readonly [applies: boolean, what: string])[] = [
    [modelTypes[family] === undefined || (first && family === 'chatglm'), `does not know ${family} models`],
    [!layouts.includes(layout), `has no ${layout} checkpoints`],
    [glm4 && before, 'does not know GLM4'],
    [glm4 && layout === 'legacy', 'knows GLM4 with mcore checkpoints only'],
    [ropeScaling !== undefined, `is not told about RoPE scaling '${ropeScaling}' by this version`],
    [qkNorm === true, 'is not told about normalised query and key heads by this version'],
  ]
  const found = refusals.find(([applies]) => applies)
  if (found) throw new UnsupportedError(`${title} ${found[1]}.`)
}

/** GLM4 has the weight names and `model_type` of ChatGLM3; their vocabularies, 151552 and 65024, tell them apart. */
export function isGlm4({ family, vocabSize }: Architecture): boolean {
  return family === 'chatglm' && vocabSize > 100000
}

/**
 * Messages between loader and saver: a model's own number where that is above the default of 50, because a saver that
 * dies would otherwise leave the loader waiting for ever. Source: ModelLink 1.1, convert_ckpt.py:79-101.
 */
export function maxQueueSize({ numLayers }: Architecture): number | undefined {
  const messages = numLayers + 5
  return messages > 50 ? messages : undefined
}
