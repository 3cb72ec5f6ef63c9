import type { Dtype } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import type { CheckpointIteration } from './megatron-folder.ts'
import type { MegatronLayout } from './stage-weights.ts'

export interface InspectedTensor {
  /** As the file names it; of Megatron shards the path of its keys, `model.` or `model0.` first. */
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly byteLength: number
}

/** One file with weights. */
export interface InspectedFile {
  /** Below the inspected path. */
  readonly file: string
  /** Of the whole file. */
  readonly byteLength: number
  readonly tensors: readonly InspectedTensor[]
  /** Of Megatron shards. */
  readonly rank?: { readonly tp: number; readonly stage: number }
  /** Tensors that are no weights: of the optimizer, of generators. */
  readonly otherTensors: number
}

interface Inspected {
  readonly path: string
  readonly files: readonly InspectedFile[]
  /** All tensors of all files, copies on other ranks counted each time. */
  readonly tensorBytes: number
  /** The model's numbers, where `config.json` or `args` give them. */
  readonly architecture?: Architecture
  /** Why there is no architecture: a family that is not known, a broken `config.json`. */
  readonly unknown?: string
  /** The folder has a manifest of the conversion that made it. */
  readonly hasManifest: boolean
  /** All of it as a table. */
  toString(): string
}

/** What a checkpoint holds. */
export type Inspection =
  | (Inspected & { readonly kind: 'hf' | 'safetensors' | 'torch' })
  | (Inspected & {
      readonly kind: 'megatron'
      readonly iteration: CheckpointIteration
      /** Of the folder, oldest first. */
      readonly iterations: readonly CheckpointIteration[]
      /** What the tracker file names, where there is one that can be read. */
      readonly tracker?: CheckpointIteration
      readonly layout: MegatronLayout
      readonly tp: number
      readonly pp: number
      /** Layers by stage, and by virtual stage in it. */
      readonly layers: readonly (readonly number[])[]
      /** Virtual stages on each stage (`--num-layers-per-virtual-pipeline-stage`); 1 without. */
      readonly vpp: number
      readonly paddedVocabSize?: number
      readonly consumedTrainSamples: number
      /** Where the optimizer's state is. */
      readonly optimizer: 'none' | 'in shards' | 'distributed'
      /** Adapters are there. */
      readonly isLora: boolean
    })
