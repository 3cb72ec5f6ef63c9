import { mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InputError } from '../errors.ts'
import { flush, removeTemporaries, writeWhole } from '../formats/atomic-file.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import { type NewTensor, type PickleValue, pickleDict, pickleFloat } from '../formats/pickle-value.ts'
import { type Dtype, dtypeBytes, type TensorSource } from '../formats/tensor.ts'
import { createTorchFile, planTorchFile, type TorchFileWriter } from '../formats/torch-writer.ts'
import { stageLayers } from '../layout/stages.ts'
import { paddedVocabSize } from '../layout/vocab-padding.ts'
import type { Architecture } from '../models/architecture.ts'
import { type CopyOptions, checkCancelled } from './block-copy.ts'
import { checkConversionTarget } from './conversion-target.ts'
import { type Copier, createCopier, partsAtATime } from './copier.ts'
import { appearInParts } from './folder-in-parts.ts'
import { inLanes } from './lanes.ts'
import { type ManifestFile, manifestTensor, planOf, writeManifest } from './manifest.ts'
import { type LoraSettings, megatronArgs } from './megatron-args.ts'
import { iterationFolder, shardPath, shardRoot, trackerPath } from './megatron-folder.ts'
import { hfTensors } from './open-hf-model.ts'
import { openMegatronCheckpoint } from './open-megatron.ts'
import type { OptimizerState } from './open-optimizer.ts'
import { optimizerContent } from './optimizer-content.ts'
import { parameterGroups } from './parameter-groups.ts'
import { hasParts, storedDtype } from './source-check.ts'
import {
  extraStateKeys,
  type MegatronLayout,
  type ParallelSizes,
  type StageWeight,
  stageWeights,
} from './stage-weights.ts'
import { copyTrainerState } from './trainer-state.ts'
import { checkTensorParallel } from './weight-plan.ts'

export interface WriteMegatronOptions extends CopyOptions {
  /** The weights under Hugging Face names, and adapters under `adapterName`s. Not closed. */
  readonly source: TensorSource
  readonly architecture: Architecture
  readonly parallel: ParallelSizes
  readonly layout: MegatronLayout
  readonly iteration: number
  /** Type to store; default as in the source, tensor by tensor. */
  readonly dtype?: FloatDtype | undefined
  /** Rows of the embedding; default the smallest multiple of tp that holds the vocabulary. */
  readonly paddedVocabSize?: number | undefined
  /** Further fields of `args`, or other values for those that are there. A whole number is an int; see `pickleFloat`. */
  readonly extraArgs?: Readonly<Record<string, PickleValue>> | undefined
  /** Default 0. */
  readonly consumedTrainSamples?: number | undefined
  /**
   * Writes a LoRA training checkpoint: the adapters, and embedding and output layer (of `lora.base` where the source
   * lacks them), without the frozen layers. Source: ModelLink 1.1, modellink/model/transformer.py:53-68.
   */
  readonly lora?: LoraSettings | undefined
  /** State of the optimizer to store beside the weights; then `dtype` must be that of the source. */
  readonly optimizer?: OptimizerState | undefined
  /** The embedded trainer's state to put beside the shards: its file. */
  readonly trainerState?: string | undefined
  /** Default 0. */
  readonly floatingPointOperations?: PickleValue | undefined
}

/**
 * Writes iteration `iteration` of the Megatron checkpoint in `dir` as ModelLink's converter would: a file for each
 * rank, a manifest, then the tracker file. What the same plan made is replaced; nothing is visible before all of it is
 * on the disk. Memory: about 6 MiB, and 20 MiB for each thread, whatever the size of the model or of a tensor.
 *
 * @throws LayoutError when model and parallel sizes do not fit; InputError when the source lacks a tensor, or when
 * `dir` holds other files or the same iteration under another plan;
 * CancelledError, leaving `dir` as it was.
 */
export async function writeMegatronCheckpoint(dir: string, options: WriteMegatronOptions): Promise<void> {
  const { architecture, parallel, iteration, lora, signal } = options
  const { tp } = parallel
  if (!Number.isSafeInteger(iteration) || iteration < 0)
    throw new InputError(`iteration is ${iteration}; it must be a whole number from 0.`)
  const padded = options.paddedVocabSize ?? paddedVocabSize({ vocabSize: architecture.vocabSize, tp })
  const numbers = { architecture, tp, paddedVocabSize: padded, loraRank: lora?.r }
  const stages = stageLayers({ numLayers: architecture.numLayers, ...parallel })
  checkTensorParallel(numbers)
  const weights = stageWeights({
    ...numbers,
    layout: options.layout,
    stages,
    ...(lora === undefined ? {} : { targets: lora.targets, adaptersOnly: true }),
  })
  refuseUnused(weights, options)
  const base = await openBase(weights, options)
  try {
    const placed = weights.map(weight => {
      const source = hasParts(options.source, weight.plan) || base === undefined ? options.source : base
      return { ...weight, source, dtype: storedDtype(source, weight.plan, options.dtype) }
    })
    const all = [...placed, ...stateBeside(placed, options)]
    const args = megatronArgs({
      ...{ architecture, parallel, layout: options.layout, paddedVocabSize: padded, iteration, lora },
      dtype: placed[0]!.dtype,
      consumedTrainSamples: options.consumedTrainSamples ?? 0,
      extraArgs: options.extraArgs ?? {},
    })
    const totalBytes = all.reduce((sum, weight) => sum + storedBytes(weight), 0)
    let doneBytes = 0
    const what = `Writing the checkpoint ${dir}`
    const advance = (bytes: number): void => {
      doneBytes += bytes
      options.onProgress?.(doneBytes, totalBytes)
    }
    const plan = planOf({
      ...{ kind: 'megatron', iteration, layout: options.layout, ...parallel, paddedVocabSize: padded },
      ...{ dtype: [...new Set(placed.map(weight => weight.dtype))].sort(), architecture, lora },
      optimizer: options.optimizer && [...options.optimizer.tensors.keys()].sort(),
      ...(options.trainerState === undefined ? {} : { trainerState: true }),
    })
    await checkConversionTarget(dir, { iteration, plan })
    await appearInParts(join(dir, iterationFolder(iteration)), { ...options, plan }, async (folder, part) => {
      const files: ManifestFile[] = []
      const sources = new Set(all.map(weight => weight.source))
      const copier = createCopier({ ...options, what, totalBytes, advance, sources })
      const writeParts = inLanes(stages.entries(), partsAtATime, async ([stage, { length: chunks }]) => {
        const mine = all.filter(weight => weight.stage === stage)
        let isKept = true
        const write = () => {
          isKept = false
          return writeStage(mine, { ...options, folder, stage, chunks, args, copier })
        }
        files.push(...(await part(`stage ${stage}`, write)))
        if (isKept) advance(mine.reduce((sum, weight) => sum + storedBytes(weight), 0))
      })
      await writeParts.finally(() => copier.close())
      checkCancelled(signal, what)
      if (options.trainerState !== undefined) await copyTrainerState(options.trainerState, folder, options)
      await writeManifest(folder, { plan, files }, options)
    })
    if (options.resume) await removeTemporaries(trackerPath(dir))
    await writeWhole(trackerPath(dir), String(iteration), options)
  } finally {
    await base?.close()
  }
}

interface PlacedWeight extends StageWeight {
  readonly source: TensorSource
  readonly dtype: Dtype
  /** Of which kind of the optimizer's tensors it is, when it is not the weight itself. */
  readonly state?: string
}

function stateBeside(placed: readonly PlacedWeight[], { optimizer, layout }: WriteMegatronOptions): PlacedWeight[] {
  const trained = parameterGroups(placed, layout).flatMap(({ weights }) => weights)
  return [...(optimizer?.tensors ?? [])].flatMap(([state, source]) =>
    trained.map(weight => ({ ...weight, state, source, dtype: storedDtype(source, weight.plan) })),
  )
}

interface StageOptions extends WriteMegatronOptions {
  readonly folder: string
  readonly stage: number
  readonly chunks: number
  readonly args: ReadonlyMap<string, PickleValue>
  readonly copier: Copier
}

async function writeStage(weights: readonly PlacedWeight[], options: StageOptions): Promise<ManifestFile[]> {
  const { tp, pp } = options.parallel
  const files: { writer: TorchFileWriter; tensors: ReadonlyMap<PlacedWeight, NewTensor>; file: string }[] = []
  const { flush: isFlushed = true } = options
  try {
    for (let rank = 0; rank < tp; rank++) {
      const tensors = new Map(
        weights.map(weight => [
          weight,
          { type: 'new-tensor', dtype: weight.dtype, shape: weight.plan.shards[rank]!.shape } as NewTensor,
        ]),
      )
      const file = shardPath({ tp: rank, stage: options.stage }, pp)
      const path = join(options.folder, file)
      await mkdir(dirname(path), { recursive: true })
      const constants = new Map<NewTensor, Uint8Array>()
      const plan = planTorchFile(fileContent(tensors, { ...options, constants }), { root: shardRoot })
      const writer = await createTorchFile(path, plan, { flush: isFlushed })
      files.push({ writer, tensors, file })
      for (const [tensor, bytes] of constants) await writer.write(tensor, bytes)
    }
    const copied = await options.copier.copy(
      weights.map(weight => ({
        ...{ shards: weight.plan.shards, source: weight.source, dtype: weight.dtype },
        places: files.map(({ writer, tensors }) => writer.place(tensors.get(weight)!)),
      })),
    )
    for (const [i, weight] of weights.entries())
      for (const [rank, { writer, tensors }] of files.entries()) writer.wrote(tensors.get(weight)!, copied[i]![rank]!)
    const written: ManifestFile[] = []
    for (const { writer, tensors, file } of files) {
      const crcs = await writer.finish()
      const path = join(options.folder, file)
      if (isFlushed) await flush(dirname(path))
      written.push({
        ...{ file: file.replaceAll('\\', '/'), byteLength: (await stat(path)).size },
        tensors: [...tensors]
          .filter(([weight]) => weight.state === undefined)
          .map(([weight, tensor]) =>
            manifestTensor({ ...tensor, name: `${modelName(weight.chunk, options)}.${weight.key}` }, crcs.get(tensor)!),
          ),
      })
    }
    return written
  } catch (error) {
    for (const { writer } of files) await writer.close().catch(() => undefined)
    throw error
  }
}

function modelName(chunk: number, { parallel }: StageOptions): string {
  return parallel.layersPerVirtualStage === undefined ? 'model' : `model${chunk}`
}

// The top-level keys of a converted checkpoint; `model0`, `model1`, … with virtual stages.
function fileContent(
  tensors: ReadonlyMap<PlacedWeight, NewTensor>,
  options: StageOptions & { constants: Map<NewTensor, Uint8Array> },
): PickleValue {
  const own = [...tensors].filter(([weight]) => weight.state === undefined)
  const models = Array.from({ length: options.chunks }, (_, chunk): [string, PickleValue] => [
    modelName(chunk, options),
    stateDict(new Map(own.filter(([weight]) => weight.chunk === chunk)), options.layout),
  ])
  const nameOf = ({ chunk, key }: StageWeight, kind: string): string => `${chunk} ${kind} ${key}`
  const beside = new Map([...tensors].map(([weight, tensor]) => [nameOf(weight, weight.state ?? ''), tensor]))
  const optimizer =
    options.optimizer &&
    optimizerContent(options.optimizer, {
      weights: own.map(([weight]) => weight),
      layout: options.layout,
      tensorOf: (weight, kind) => beside.get(nameOf(weight, kind))!,
      constant: (tensor, bytes) => options.constants.set(tensor, bytes),
    })
  return pickleDict([
    ['args', { type: 'namespace', fields: options.args }],
    ['checkpoint_version', pickleFloat(3)],
    ['iteration', options.iteration],
    ...models,
    ...(optimizer ?? []),
    ['num_floating_point_operations_so_far', options.floatingPointOperations ?? 0],
  ])
}

// Megatron-Core: one flat OrderedDict. Legacy: nested by the names before the first dot that has an OrderedDict below.
function stateDict(tensors: ReadonlyMap<PlacedWeight, NewTensor>, layout: MegatronLayout): PickleValue {
  const extra = extraStateKeys([...tensors.keys()])
  const entries = new Map<string, NewTensor | null>()
  for (const [weight, tensor] of tensors) entries.set(weight.key, tensor)
  for (const key of extra) entries.set(key, null)
  if (layout === 'mcore') return { type: 'ordered-dict', entries }
  const under = (prefix: string): PickleValue => ({
    type: 'ordered-dict',
    entries: new Map(
      [...entries].flatMap(([key, value]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), value]] : [])),
    ),
  })
  const has = (prefix: string): boolean => [...entries.keys()].some(key => key.startsWith(prefix))
  return pickleDict([
    [
      'language_model',
      pickleDict([
        ...(has('embedding.')
          ? [['embedding', pickleDict([['word_embeddings', under('embedding.word_embeddings.')]])] as const]
          : []),
        ['encoder', under('encoder.')],
        ...(has('output_layer.') ? [['output_layer', under('output_layer.')] as const] : []),
      ]),
    ],
    ...(has('word_embeddings_for_head.')
      ? [['word_embeddings_for_head', under('word_embeddings_for_head.')] as const]
      : []),
  ])
}

function storedBytes(weight: PlacedWeight): number {
  return weight.plan.shards.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, dtypeBytes[weight.dtype]), 0)
}

// Frozen weights beside adapters stay out of a LoRA checkpoint; everything else in the source must find its place.
function refuseUnused(weights: readonly StageWeight[], { source, lora, architecture }: WriteMegatronOptions): void {
  const known = new Set(weights.flatMap(weight => weight.plan.parts.map(part => part.name)))
  if (lora !== undefined) for (const name of hfTensors(architecture).keys()) known.add(name)
  for (const name of source.tensors.keys()) {
    if (!known.has(name))
      throw new InputError(`Tensor '${name}' has no place in a Megatron checkpoint of this architecture.`)
  }
}

async function openBase(
  weights: readonly StageWeight[],
  options: WriteMegatronOptions,
): Promise<TensorSource | undefined> {
  if (options.lora === undefined || weights.every(weight => hasParts(options.source, weight.plan))) return undefined
  return openMegatronCheckpoint(options.lora.base, { architecture: options.architecture })
}
