import { mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InputError } from '../errors.ts'
import { flush, removeTemporaries, writeWhole } from '../formats/atomic-file.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import type { NewTensor, PickleValue } from '../formats/pickle-value.ts'
import { type Dtype, type TensorSource, tensorBytes } from '../formats/tensor.ts'
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
import { parameterGroups } from './parameter-groups.ts'
import { modelName, type ShardContentOptions, type ShardWeight, shardContent } from './shard-content.ts'
import { hasParts, storedDtype } from './source-check.ts'
import { type MegatronLayout, type ParallelSizes, type StageWeight, stageWeights } from './stage-weights.ts'
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
  const what = `Writing the checkpoint ${dir}`
  const sources = [options.source, ...(options.optimizer?.tensors.values() ?? [])]
  const copier = createCopier({ ...options, what, sources })
  await writeIteration(dir, { ...options, what, copier }).finally(() => copier.close())
}

interface WriteOptions extends WriteMegatronOptions {
  /** For the message of a CancelledError. */
  readonly what: string
  readonly copier: Copier
}

async function writeIteration(dir: string, options: WriteOptions): Promise<void> {
  const { architecture, parallel, iteration, lora, signal, what, copier } = options
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
      await inLanes(stages.entries(), partsAtATime, async ([stage, { length: chunks }]) => {
        const mine = all.filter(weight => weight.stage === stage)
        const bytes = mine.reduce((sum, weight) => sum + storedBytes(weight), 0)
        const write = () => writeStage(mine, { ...options, folder, stage, chunks, args, advance })
        files.push(...(await part(`stage ${stage}`, write, () => advance(bytes))))
      })
      // Its threads take a while to end.
      void copier.close()
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

interface PlacedWeight extends ShardWeight {
  readonly source: TensorSource
  readonly dtype: Dtype
}

function stateBeside(placed: readonly PlacedWeight[], { optimizer, layout }: WriteMegatronOptions): PlacedWeight[] {
  const trained = parameterGroups(placed, layout).flatMap(({ weights }) => weights)
  return [...(optimizer?.tensors ?? [])].flatMap(([state, source]) =>
    trained.map(weight => ({ ...weight, state, source, dtype: storedDtype(source, weight.plan) })),
  )
}

interface StageOptions extends WriteOptions, ShardContentOptions {
  readonly folder: string
  readonly stage: number
  readonly advance: (bytes: number) => void
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
      const plan = planTorchFile(shardContent(tensors, { ...options, constants }), { root: shardRoot })
      const writer = await createTorchFile(path, plan, { flush: isFlushed })
      files.push({ writer, tensors, file })
      for (const [tensor, bytes] of constants) await writer.write(tensor, bytes)
    }
    const copied = await options.copier.copy(
      weights.map(weight => ({
        ...{ shards: weight.plan.shards, source: weight.source, dtype: weight.dtype },
        places: files.map(({ writer, tensors }) => writer.place(tensors.get(weight)!)),
      })),
      options.advance,
    )
    for (const [i, weight] of weights.entries())
      for (const [rank, { writer, tensors }] of files.entries()) writer.wrote(tensors.get(weight)!, copied[i]![rank]!)
    const written: ManifestFile[] = []
    await inLanes(files.entries(), tp, async ([rank, { writer, tensors, file }]) => {
      const crcs = await writer.finish()
      const path = join(options.folder, file)
      if (isFlushed) await flush(dirname(path))
      written[rank] = {
        ...{ file: file.replaceAll('\\', '/'), byteLength: (await stat(path)).size },
        tensors: [...tensors]
          .filter(([weight]) => weight.state === undefined)
          .map(([weight, tensor]) =>
            manifestTensor({ ...tensor, name: `${modelName(weight.chunk, options)}.${weight.key}` }, crcs.get(tensor)!),
          ),
      }
    })
    return written
  } catch (error) {
    for (const { writer } of files) await writer.close().catch(() => undefined)
    throw error
  }
}

function storedBytes(weight: PlacedWeight): number {
  return weight.plan.shards.reduce((sum, { shape }) => sum + tensorBytes({ dtype: weight.dtype, shape }), 0)
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
