import { resolve } from 'node:path'
import { z } from 'zod'
import { InputError } from '../errors.ts'
import { type Artifact, defineArtifact } from '../flow/artifact.ts'
import type { Architecture } from '../models/architecture.ts'
import { findModel } from '../models/supported-model.ts'

/** A model folder as Hugging Face writes it: `config.json`, safetensors, tokenizer files. */
export interface HfModel {
  readonly kind: 'hf-model'
  readonly path: string
  /** Which of `models` it is said to be, `llama2-13b` say; conversion checks `config.json` against what is known. */
  readonly id?: string
}

/** Text to train on: a file, a folder, a glob. */
export interface Corpus {
  readonly kind: 'corpus'
  readonly path: string
  /** Column that holds the text of a pretraining row. */
  readonly textKey: string
}

/** A tokenised dataset in Megatron's indexed format. */
export interface MegatronDataset {
  readonly kind: 'megatron-dataset'
  /** What Megatron's `--data-path` takes: the common prefix of the `.bin` and `.idx` files. */
  readonly path: string
  /** True for instruction data (ids, labels and masks), false for pretraining text. */
  readonly instruction: boolean
  /** Rows that were kept. */
  readonly samples: number
  /** Tokens of all kept rows. */
  readonly tokens: number
  /** `len(tokenizer)`, added tokens included. */
  readonly vocabSize: number
}

/** Weights as Megatron shards: `iter_NNNNNNN/mp_rank_*` and the tracker file. */
export interface MegatronCheckpoint {
  readonly kind: 'megatron-checkpoint'
  readonly path: string
  readonly iteration: number
  readonly tp: number
  readonly pp: number
  readonly layout: 'legacy' | 'mcore'
  /** Layers of each pipeline stage (`--num-layer-list`); absent when all have equal shares. */
  readonly layersPerStage?: readonly number[]
  /** Layers of a virtual stage (`--num-layers-per-virtual-pipeline-stage`); absent without virtual stages. */
  readonly layersPerVirtualStage?: number
  /** The model's numbers, by which layouts are checked. */
  readonly architecture: Architecture
  /** The checkpoint that these adapters were trained on; absent when the shards hold the whole model. */
  readonly loraBase?: MegatronCheckpoint | undefined
}

/** LoRA adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors`. */
export interface PeftAdapter {
  readonly kind: 'peft-adapter'
  readonly path: string
}

/** A script or any other file whose content should count in a key. */
export interface SourceFile {
  readonly kind: 'file'
  readonly path: string
}

const count = z.number().int().nonnegative()

export const HfModel: z.ZodType<HfModel, HfModel> = defineArtifact<HfModel>('hf-model', {
  id: z.string().exactOptional(),
})

export const Corpus: z.ZodType<Corpus, Corpus> = defineArtifact<Corpus>('corpus', { textKey: z.string().min(1) })

/** What is to be known of a dataset, beside where it is. */
export const datasetFacts = { instruction: z.boolean(), samples: count, tokens: count, vocabSize: count }

export const MegatronDataset: z.ZodType<MegatronDataset, MegatronDataset> = defineArtifact<MegatronDataset>(
  'megatron-dataset',
  datasetFacts,
)

const ArchitectureFacts: z.ZodType<Architecture, Architecture> = z.object({
  family: z.string(),
  numLayers: count,
  hiddenSize: count,
  ffnHiddenSize: count,
  numAttentionHeads: count,
  numQueryGroups: count,
  kvChannels: count,
  vocabSize: count,
  maxPositionEmbeddings: count,
  normEpsilon: z.number(),
  rotaryBase: z.number(),
  tiedEmbeddings: z.boolean(),
  addQkvBias: z.boolean(),
  ropeScaling: z.string().exactOptional(),
  rotaryPercent: z.number().exactOptional(),
  alibi: z.literal(true).exactOptional(),
  qkNorm: z.literal(true).exactOptional(),
  slidingWindow: z.number().exactOptional(),
})

/** What `train` needs to know of a checkpoint, beside where it is. */
export const checkpointFacts = {
  iteration: count,
  tp: count.positive(),
  pp: count.positive(),
  layout: z.enum(['legacy', 'mcore']),
  layersPerStage: z.array(count.positive()).readonly().exactOptional(),
  layersPerVirtualStage: count.positive().exactOptional(),
  architecture: ArchitectureFacts,
  loraBase: z.lazy(() => MegatronCheckpoint).optional(),
}

export const MegatronCheckpoint: z.ZodType<MegatronCheckpoint, MegatronCheckpoint> = defineArtifact<MegatronCheckpoint>(
  'megatron-checkpoint',
  checkpointFacts,
)

export const PeftAdapter: z.ZodType<PeftAdapter, PeftAdapter> = defineArtifact<PeftAdapter>('peft-adapter', {})

export const SourceFile: z.ZodType<SourceFile, SourceFile> = defineArtifact<SourceFile>('file', {})

/**
 * A Hugging Face model folder; `path` is taken from the working folder. `id` says which of `models` it is.
 * @throws InputError for an id that none of them has.
 */
export function hfModel(path: string, options: { readonly id?: string } = {}): HfModel {
  const { id } = options
  return literal({ kind: 'hf-model', path, ...(id === undefined ? {} : { id: findModel(id).id }) })
}

/** Text to train on: a file, a folder or a glob, taken from the working folder. `textKey` defaults to `text`. */
export function corpus(path: string, options: { readonly textKey?: string } = {}): Corpus {
  return literal({ kind: 'corpus', path, textKey: options.textKey ?? 'text' })
}

/** A folder of LoRA adapters; `path` is taken from the working folder. */
export function peftAdapter(path: string): PeftAdapter {
  return literal({ kind: 'peft-adapter', path })
}

/** A file whose content counts in the keys of the steps that get it. */
export function file(path: string): SourceFile {
  return literal({ kind: 'file', path })
}

/** Absolute, so that a job in another folder finds it; a glob's wildcards survive, since they name no folder. */
function literal<A extends Artifact>(artifact: A): A {
  if (artifact.path.trim() === '') throw new InputError(`The path of a ${artifact.kind} is empty.`)
  return { ...artifact, path: resolve(artifact.path) }
}
