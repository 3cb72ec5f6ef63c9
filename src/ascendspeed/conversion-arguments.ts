import { join } from 'node:path'
import { LayoutError, UnsupportedError } from '../errors.ts'
import type { Word } from '../flow/launch.ts'
import { paddedVocabSize } from '../layout/vocab-padding.ts'
import type { Architecture } from '../models/architecture.ts'
import { type LoraTarget, legacyTarget } from '../models/lora-rules.ts'
import { type ConverterModel, converterModel, maxQueueSize } from './converter-models.ts'
import { generationFacts } from './generations.ts'
import type { ParserName } from './parsers.ts'
import {
  checkToolchainLayout,
  pythonCommand,
  stageWords,
  type Toolchain,
  type ToolchainCommand,
  type ToolchainParallel,
} from './toolchain.ts'

/** What the converter is asked for on the way to Megatron. */
export interface ToolchainHfToMegatron {
  readonly architecture: Architecture
  /** Folder of the Hugging Face model. */
  readonly model: string
  readonly parallel: ToolchainParallel
  readonly layout: 'legacy' | 'mcore'
  /** Stored type; default bf16, or fp16 where the converter has no other. */
  readonly dtype?: 'bf16' | 'fp16' | undefined
  /** Where the checkpoint goes. */
  readonly save: string
}

/**
 * The command that cuts a Hugging Face model into Megatron shards.
 * Source: ModelLink 1.1, tools/checkpoint/{convert_ckpt,loader_*,saver_megatron}.py; RC3, modellink/tasks/checkpoint.
 * @throws LayoutError; UnsupportedError naming what the generation's converter cannot do.
 */
export function hfToMegatronCommand(toolchain: Toolchain, options: ToolchainHfToMegatron): ToolchainCommand {
  const { architecture, model, parallel, save } = options
  const converter = converterModel(toolchain.generation, options)
  checkToolchainLayout(architecture, parallel)
  const dtype = options.dtype ?? (converter.dtype ? 'fp16' : 'bf16')
  if (converter.dtype && dtype !== converter.dtype)
    throw new UnsupportedError(
      `${titleOf(toolchain)} stores ${architecture.family} as ${converter.dtype}, not ${dtype}.`,
    )
  const parsers: readonly ParserName[] = ['convert', `loader_${converter.loader}`, converter.saver]
  return pythonCommand(toolchain, 'convert', {
    parsers,
    args: [
      ...['--model-type', 'GPT', ...pluginWords(converter, 'hf')],
      ...mcoreWords(options),
      ...['--load-dir', { read: model }, '--save-dir', { write: save }, '--tokenizer-model', { read: model }],
      ...targetWords(parallel),
      ...(converter.dtype ? [] : ['--params-dtype', dtype]),
      ...(architecture.addQkvBias ? ['--add-qkv-bias'] : []),
      ...wPackWords(architecture, toolchain),
      ...queueWords(architecture),
    ],
  })
}

/** What the converter is asked for on the way back. */
export interface ToolchainMegatronToHf {
  readonly architecture: Architecture
  /** Megatron checkpoint; with `lora` the base that its adapters were trained on. */
  readonly load: string
  readonly parallel: ToolchainParallel
  readonly layout: 'legacy' | 'mcore'
  /**
   * Type of the checkpoint's weights; default bf16. The toolchain's own examples leave it out, so that bf16 weights go
   * through fp16: ModelLink 1.1, loader_megatron.py:31,82-85.
   */
  readonly dtype?: 'bf16' | 'fp16' | undefined
  /** Folder with the original model, which the toolchain writes into: give it a copy, or links. */
  readonly save: string
  /** Adapters to merge. */
  readonly lora?: ToolchainLora | undefined
}

/** Adapters as a training left them, with what it was told of them. */
export interface ToolchainLora {
  readonly path: string
  readonly r: number
  readonly alpha: number
  readonly targets: readonly LoraTarget[]
}

/**
 * The command that puts Megatron shards together into a Hugging Face model, and the folder where that is found, which
 * has no tokenizer files.
 * @throws UnsupportedError naming what the generation's converter cannot do, or would do wrong without saying so.
 */
export function megatronToHfCommand(
  toolchain: Toolchain,
  options: ToolchainMegatronToHf,
): ToolchainCommand & { readonly output: string } {
  const { architecture, load, save, parallel } = options
  const converter = converterModel(toolchain.generation, options)
  const loader = converter.framework === 'old' ? 'loader_megatron' : 'loader_mg'
  checkToolchainLayout(architecture, parallel)
  refuseWrongExports(toolchain, options)
  const command = pythonCommand(toolchain, 'convert', {
    parsers: ['convert', loader, converter.saver],
    args: [
      ...['--model-type', 'GPT', ...pluginWords(converter, 'mg')],
      ...mcoreWords(options),
      ...['--load-dir', { read: load }, '--save-dir', { write: save }],
      ...targetWords({ tp: 1, pp: 1, layersPerVirtualStage: parallel.layersPerVirtualStage }),
      ...['--params-dtype', options.dtype ?? 'bf16'],
      ...(architecture.addQkvBias ? ['--add-qkv-bias'] : []),
      ...wPackWords(architecture, toolchain),
      ...vocabWords(options),
      ...loraWords(toolchain, options),
      ...queueWords(architecture),
    ],
  })
  return { ...command, output: join(save, generationFacts[toolchain.generation].exportFolder) }
}

const titleOf = ({ generation }: Toolchain) => generationFacts[generation].title

function pluginWords(converter: ConverterModel, from: 'hf' | 'mg'): readonly Word[] {
  if (converter.framework === 'old')
    return from === 'hf'
      ? ['--loader', converter.loader, '--saver', 'megatron']
      : ['--loader', 'megatron', '--saver', 'megatron', '--save-model-type', converter.saveModelType]
  const to = from === 'hf' ? 'mg' : 'hf'
  return ['--load-model-type', from, '--save-model-type', to, '--model-type-hf', converter.modelTypeHf]
}

const mcoreWords = ({ layout }: { readonly layout: 'legacy' | 'mcore' }) =>
  layout === 'mcore' ? ['--use-mcore-models'] : []

function targetWords(parallel: ToolchainParallel): readonly Word[] {
  const { tp, pp } = parallel
  return ['--target-tensor-parallel-size', tp, '--target-pipeline-parallel-size', pp, ...stageWords(parallel)]
}

/** Any value means true, `False` too; the savers want it in both directions. */
function wPackWords({ family }: Architecture, { generation }: Toolchain): readonly Word[] {
  const old = generation === 'modellink-1.0' || generation === 'modellink-1.1'
  return family === 'baichuan' && old ? ['--w-pack', 'True'] : []
}

function queueWords(architecture: Architecture): readonly Word[] {
  const size = maxQueueSize(architecture)
  return size === undefined ? [] : ['--max-queue-size', size]
}

/** Rows that were added to make the vocabulary divisible are cut off again. */
function vocabWords({ architecture: { vocabSize }, parallel }: ToolchainMegatronToHf): readonly Word[] {
  return paddedVocabSize({ vocabSize, tp: parallel.tp }) === vocabSize ? [] : ['--true-vocab-size', vocabSize]
}

function loraWords({ generation }: Toolchain, { lora, layout }: ToolchainMegatronToHf): readonly Word[] {
  if (!lora) return []
  if (generation === 'modellink-1.1') return ['--lora-dir', { read: lora.path }]
  const targets = lora.targets.map(target => (layout === 'mcore' ? target : legacyTarget(target)))
  return [
    ...['--lora-load', { read: lora.path }, '--lora-r', lora.r, '--lora-alpha', lora.alpha],
    ...['--lora-target-modules', ...targets],
  ]
}

function refuseWrongExports(toolchain: Toolchain, options: ToolchainMegatronToHf): void {
  const { architecture, parallel, lora } = options
  const { vocabSize, family } = architecture
  const { generation } = toolchain
  const padded = paddedVocabSize({ vocabSize, tp: parallel.tp })
  const root = generation === 'modellink-rc3' || generation === 'mindspeed-llm'
  if (lora && (!Number.isSafeInteger(lora.alpha) || !Number.isSafeInteger(lora.r)))
    throw new LayoutError(`lora r ${lora.r} and alpha ${lora.alpha}: the toolchain takes whole numbers.`)
  const defects: readonly (readonly [applies: boolean, what: string])[] = [
    [parallel.layersPerStage !== undefined, 'is not known to read uneven pipeline stages'],
    [root && padded !== vocabSize, `cannot export ${padded} rows of a vocabulary of ${vocabSize}`],
    [generation === 'modellink-1.1' && family === 'chatglm', 'leaves the input layer norms of ChatGLM as they were'],
    // RC3, modellink/tasks/checkpoint/models.py:491-494; the same in MindSpeed-LLM 2.0.0.
    [root && family === 'chatglm', 'writes gate and up matrices, which ChatGLM has not'],
    [generation === 'modellink-1.0' && lora !== undefined, 'does not merge adapters'],
    [
      generation === 'modellink-1.1' && lora !== undefined && parallel.pp > 1,
      `merges the first stage's adapters into all ${parallel.pp} stages`,
    ],
  ]
  const found = defects.find(([applies]) => applies)
  if (found)
    throw new UnsupportedError(`${titleOf(toolchain)}'s converter ${found[1]}.`, {
      hint: 'Leave the toolchain out of this step: the native export does it.',
    })
}
