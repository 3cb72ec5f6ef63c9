import { InputError, UnsupportedError } from '../errors.ts'
import type { Architecture } from '../models/architecture.ts'
import type { ToolchainHfToMegatron, ToolchainLora, ToolchainMegatronToHf } from './conversion-arguments.ts'
import type { ToolchainPreprocessing } from './preprocess-arguments.ts'
import type { ToolchainTraining } from './training-arguments.ts'

interface Folder {
  readonly path: string
}

interface CorpusLike extends Folder {
  readonly textKey: string
}

/** What the input of `preprocess` has that matters here. */
export interface PreprocessStepInput {
  readonly corpus: CorpusLike | readonly { readonly corpus: CorpusLike; readonly weight?: number | undefined }[]
  readonly tokenizer: Folder
  readonly handler: string
  readonly jsonKeys?: readonly string[] | undefined
  readonly seqLength?: number | undefined
  readonly appendEod: boolean
  readonly promptType?: string | undefined
  readonly mapKeys?: object | undefined
  readonly workers?: number | undefined
  readonly overflow?: string | undefined
  readonly pack?: boolean | undefined
  readonly validation?: number | undefined
  readonly onBadRow?: string | undefined
}

/**
 * `preprocess` as the toolchain can do it.
 * @throws UnsupportedError naming the option that `preprocess_data.py` has no like of.
 */
export function preprocessingOf(input: PreprocessStepInput, outputPrefix: string): ToolchainPreprocessing {
  const { corpus, overflow = 'drop', pack, validation, onBadRow = 'fail', tokenizer, handler, workers } = input
  const corpora = 'path' in corpus ? [{ corpus }] : corpus
  const beyond: readonly (readonly [applies: boolean, option: string])[] = [
    [corpora.length !== 1, `${corpora.length} corpora`],
    [overflow !== 'drop', `overflow: '${overflow}'`],
    [pack === true, 'pack'],
    [validation !== undefined, 'validation'],
    [onBadRow !== 'fail', `onBadRow: '${onBadRow}'`],
  ]
  const found = beyond.find(([applies]) => applies)
  const only = corpora[0]?.corpus
  if (found || !only) throw new UnsupportedError(`The toolchain's preprocessing has no ${found?.[1]}.`)
  const pretraining = handler === 'GeneralPretrainHandler'
  return {
    ...{ input: only.path, tokenizer: tokenizer.path, outputPrefix, handler, workers },
    jsonKeys: input.jsonKeys ?? (pretraining ? [only.textKey] : undefined),
    ...{ seqLength: input.seqLength, appendEod: input.appendEod, promptType: input.promptType, mapKeys: input.mapKeys },
  }
}

/** What an artifact of Megatron shards tells. */
export interface CheckpointLike extends Folder {
  readonly tp: number
  readonly pp: number
  readonly layout: 'legacy' | 'mcore'
  readonly layersPerStage?: readonly number[] | undefined
  readonly layersPerVirtualStage?: number | undefined
  readonly architecture: Architecture
  readonly loraBase?: CheckpointLike | undefined
}

type StoredType = 'bf16' | 'fp16' | 'fp32'

/** `hfToMegatron` as the toolchain can do it. @throws UnsupportedError for float32. */
export function hfToMegatronOf(
  input: Pick<ToolchainHfToMegatron, 'parallel' | 'layout'> & {
    readonly model: Folder
    readonly dtype?: StoredType | undefined
  },
  { architecture, save }: { readonly architecture: Architecture; readonly save: string },
): ToolchainHfToMegatron {
  const { model, parallel, layout } = input
  return { architecture, model: model.path, parallel, layout, dtype: halfType(input.dtype), save }
}

/**
 * `megatronToHf` as the toolchain can do it. `save` is a copy of the model `like`; adapters need `lora`, since the
 * artifact does not tell their rank. @throws InputError, UnsupportedError.
 */
export function megatronToHfOf(
  { checkpoint, dtype }: { readonly checkpoint: CheckpointLike; readonly dtype?: StoredType | undefined },
  { save, lora }: { readonly save: string; readonly lora?: Omit<ToolchainLora, 'path'> | undefined },
): ToolchainMegatronToHf {
  const { architecture, layout, loraBase } = checkpoint
  if (loraBase && !lora)
    throw new InputError(`${checkpoint.path} has adapters; their rank, alpha and targets are needed.`)
  return {
    ...{ architecture, layout, parallel: checkpoint, dtype: halfType(dtype), save },
    load: (loraBase ?? checkpoint).path,
    ...(loraBase && lora ? { lora: { ...lora, path: checkpoint.path } } : {}),
  }
}

/** What the input of `train` has that matters here, with its defaults. */
export interface TrainStepInput
  extends Omit<
    ToolchainTraining,
    | 'architecture'
    | 'layout'
    | 'parallel'
    | 'devicesPerNode'
    | 'validation'
    | 'dtype'
    | 'saveInterval'
    | 'trainIters'
    | 'load'
    | 'save'
    | 'tokenizer'
  > {
  readonly init: CheckpointLike
  readonly parallel?:
    | { readonly tp?: number | undefined; readonly pp?: number | undefined; readonly cp?: number | undefined }
    | undefined
  readonly devicesPerNode?: number | undefined
  readonly validation?: Folder | undefined
  readonly dtype: StoredType
}

/** What a training needs beside its step's input. */
export interface TrainStepFacts {
  /** Folder with the tokenizer's files: the toolchain trains with it, the embedded trainer does not. */
  readonly tokenizer: string
  readonly save: string
  readonly trainIters: number
  readonly saveInterval: number
  /** Needed with validation data. */
  readonly evaluation?: { readonly evalInterval: number; readonly evalIters: number } | undefined
  readonly resume?: boolean | undefined
  readonly loadRng?: boolean | undefined
  readonly dataCache?: string | undefined
}

/** `train` as the toolchain can do it. @throws UnsupportedError for float32; InputError. */
export function trainingOfStep(input: TrainStepInput, facts: TrainStepFacts): ToolchainTraining {
  const { init, parallel, validation, nodes, dtype, ...rest } = input
  const { evaluation, ...others } = facts
  const { architecture, layout, layersPerStage, layersPerVirtualStage } = init
  const { tp = init.tp, pp = init.pp, cp = 1 } = parallel ?? {}
  if (validation && !evaluation) throw new InputError('Validation data needs an interval and a number of iterations.')
  return {
    ...{ ...rest, ...others, architecture, layout, nodes, load: init.path },
    parallel: { tp, pp, cp, layersPerStage, layersPerVirtualStage },
    devicesPerNode: input.devicesPerNode ?? Math.ceil((tp * pp * cp) / nodes),
    dtype: halfType(dtype) ?? 'bf16',
    validation: validation && evaluation && { path: validation.path, ...evaluation },
  }
}

function halfType(dtype: StoredType | undefined): 'bf16' | 'fp16' | undefined {
  if (dtype === 'fp32') throw new UnsupportedError('The toolchain stores bf16 or fp16, not fp32.')
  return dtype
}
