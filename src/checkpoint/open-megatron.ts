import { FormatError } from '../errors.ts'
import { dictEntries, type PickleTensor, type PickleValue } from '../formats/pickle-value.ts'
import type { TensorSource } from '../formats/tensor.ts'
import { openTorchFile, type TorchFile } from '../formats/torch-file.ts'
import type { Architecture } from '../models/architecture.ts'
import { mergeLora } from './lora-merge.ts'
import { type ArgsReader, architectureFromArgs, argsReader, type LoraSettings, loraFromArgs } from './megatron-args.ts'
import { type CheckpointIteration, listShards, readTracker } from './megatron-folder.ts'
import { flattenModel, layersHeld } from './model-state.ts'
import { type ShardedWeight, shardSource } from './shard-source.ts'
import { type MegatronLayout, type StageWeight, stageWeights } from './stage-weights.ts'
import { checkTensorParallel } from './weight-plan.ts'

/** A Megatron checkpoint's weights under Hugging Face names and shapes. */
export interface MegatronCheckpointSource extends TensorSource {
  readonly architecture: Architecture
  readonly iteration: CheckpointIteration
  readonly tp: number
  readonly pp: number
  readonly layout: MegatronLayout
  readonly paddedVocabSize: number
  /** Samples that training has consumed; 0 for converted weights. */
  readonly consumedTrainSamples: number
  /** The adapters' settings, of a LoRA training checkpoint only. */
  readonly lora?: LoraSettings
}

export interface OpenMegatronOptions {
  /** Default: what the tracker file names. */
  readonly iteration?: CheckpointIteration | undefined
  /**
   * The model it holds, from its `config.json`; default what `args` in the file say. The file does not name the family
   * and often not the true vocabulary, so give it whenever it is known; shapes that disagree are refused.
   */
  readonly architecture?: Architecture | undefined
  /**
   * The Megatron checkpoint that a LoRA checkpoint was trained on, with any parallel sizes: the source then has the
   * merged weights. Without it the source has the adapters (under `adapterName`s), embedding and output layer. A
   * Megatron-Core checkpoint that holds the frozen weights too is its own base and always merged.
   */
  readonly base?: string | undefined
  /** Iteration of `base`; default what its tracker file names. */
  readonly baseIteration?: CheckpointIteration | undefined
}

/**
 * Opens a Megatron checkpoint folder (with its tracker file) of any TP and PP, even, uneven or virtual stages, legacy
 * or Megatron-Core. Reads file directories and pickles, no weights; `readRows` then reads what it is asked for. Ranks
 * that hold copies of a weight are not compared: the first one counts, as for ModelLink's converter.
 *
 * @throws FormatError when a rank, a weight or an argument is missing, unknown or of another shape.
 */
export async function openMegatronCheckpoint(
  dir: string,
  options: OpenMegatronOptions = {},
): Promise<MegatronCheckpointSource> {
  const { weights, lora, isComplete, stages: _, files: __, close, ...facts } = await openMegatronShards(dir, options)
  try {
    const own = shardSource(
      weights.filter(({ weight }) => !weight.isCopy),
      close,
    )
    const source =
      lora === undefined ? own : await merged(own, { ...options, architecture: facts.architecture, lora, isComplete })
    return { ...source, ...facts, ...(lora === undefined ? {} : { lora }) }
  } catch (error) {
    await close()
    throw error
  }
}

/** A Megatron checkpoint's weights as the ranks hold them. */
export interface MegatronShards extends Omit<MegatronCheckpointSource, keyof TensorSource | 'lora'> {
  /** `files[stage][tpRank]`. */
  readonly files: readonly (readonly TorchFile[])[]
  /** `stages[stage][virtual stage]`: the numbers of its layers. */
  readonly stages: readonly (readonly (readonly number[])[])[]
  /** Every weight, copies included, stage by stage. */
  readonly weights: readonly ShardedWeight[]
  readonly lora: LoraSettings | undefined
  /** The frozen weights are there beside the adapters, or there are no adapters. */
  readonly isComplete: boolean
  close(): Promise<void>
}

/** Opens a checkpoint as `openMegatronCheckpoint` does, with the same checks, and gives its shards one by one. */
export async function openMegatronShards(
  dir: string,
  options: Omit<OpenMegatronOptions, 'base' | 'baseIteration'> = {},
): Promise<MegatronShards> {
  const iteration = options.iteration ?? (await readTracker(dir))
  const shards = await listShards(dir, iteration)
  const files: TorchFile[][] = []
  const close = async (): Promise<void> => {
    for (const file of files.flat()) await file.close()
  }
  try {
    for (const paths of shards) {
      files.push([])
      for (const path of paths) files.at(-1)!.push(await openTorchFile(path))
    }
    return { ...readCheckpoint(files, options), iteration, files, close }
  } catch (error) {
    await close()
    throw error
  }
}

// A Megatron-Core checkpoint may hold the frozen weights beside the adapters: it is its own base.
async function merged(
  own: TensorSource,
  options: OpenMegatronOptions & { architecture: Architecture; lora: LoraSettings; isComplete: boolean },
): Promise<TensorSource> {
  const { architecture, lora, isComplete, base } = options
  if (isComplete) return mergeLora({ adapters: own, base: own, architecture, lora })
  if (base === undefined) return own
  const opened = await openMegatronCheckpoint(base, { architecture, iteration: options.baseIteration })
  try {
    return mergeLora({ adapters: own, base: opened, architecture, lora })
  } catch (error) {
    await opened.close()
    throw error
  }
}

function readCheckpoint(
  files: readonly (readonly TorchFile[])[],
  options: OpenMegatronOptions,
): Omit<MegatronShards, 'iteration' | 'files' | 'close'> {
  const tp = files[0]!.length
  const pp = files.length
  const models = files.map(ranks => ranks.map(file => flattenModel(file)))
  const first = files[0]![0]!
  const args = readArgs(first)
  checkSizes(args, { tp, pp, file: first.path })
  const fromArgs = architectureFromArgs(args)
  const architecture = options.architecture ?? fromArgs
  if (options.architecture !== undefined) checkAgreement(options.architecture, fromArgs, { tp, file: first.path })
  const lora = loraFromArgs(args, first.path)
  const layout = models[0]![0]!.layout
  const paddedVocabSize = args.count('padded_vocab_size')
  const numbers = { architecture, tp, paddedVocabSize, loraRank: lora?.r }
  checkTensorParallel(numbers)
  const stages = layersHeld(
    models.map((ranks, stage) => ({ chunks: ranks[0]!.chunks, file: files[stage]![0]!.path })),
    architecture.numLayers,
  )
  const isComplete =
    lora === undefined || models.at(-1)![0]!.chunks.some(chunk => [...chunk.keys()].some(key => key.includes('norm')))
  const planned = stageWeights({ ...numbers, layout, stages, targets: lora?.targets ?? [], adaptersOnly: !isComplete })
  const weights = planned.map(
    (weight): ShardedWeight => ({
      weight,
      shards: files[weight.stage]!.map((file, rank) => {
        const model = models[weight.stage]![rank]!
        if (model.layout !== layout)
          throw new FormatError({
            file: file.path,
            expected: `a ${layout} state dict, as in ${first.path}`,
            found: `a ${model.layout} one`,
          })
        return { file, tensor: takeTensor(weight, { file: file.path, rank, entries: model.chunks[weight.chunk] }) }
      }),
    }),
  )
  for (const [stage, ranks] of models.entries()) {
    for (const [rank, model] of ranks.entries()) {
      for (const entries of model.chunks) refuseLeftOver(entries, files[stage]![rank]!.path)
    }
  }
  const consumedTrainSamples = args.number('consumed_train_samples') ?? 0
  return { architecture, tp, pp, layout, paddedVocabSize, consumedTrainSamples, lora, isComplete, stages, weights }
}

function readArgs(file: TorchFile): ArgsReader {
  const args = dictEntries(file.value)?.get('args')
  if (typeof args === 'object' && args !== null && 'type' in args && args.type === 'namespace')
    return argsReader(args.fields, file.path)
  throw new FormatError({
    file: file.path,
    expected: "an argparse.Namespace 'args'",
    found: args === undefined ? 'none' : 'something else',
  })
}

// Megatron's own sizes beside the number of files: a folder with files of another run must not be believed.
function checkSizes(args: ArgsReader, { tp, pp, file }: { tp: number; pp: number; file: string }): void {
  for (const [field, size] of Object.entries({ tensor_model_parallel_size: tp, pipeline_model_parallel_size: pp })) {
    const stated = args.number(field) ?? size
    if (stated !== size)
      throw new FormatError({
        file,
        expected: `args.${field} to be ${size}, as the mp_rank_* folders say`,
        found: `${stated}`,
      })
  }
}

function checkAgreement(given: Architecture, found: Architecture, place: { tp: number; file: string }): void {
  // With fewer groups than ranks the args may count the copies.
  const numbers = ({ numQueryGroups, ...model }: Architecture) => ({
    ...{ qkNorm: false, ...model, numQueryGroups: Math.max(numQueryGroups, place.tp) },
  })
  const [a, b] = [numbers(given), numbers(found)]
  for (const key of agreedKeys) {
    if (a[key] === b[key]) continue
    const expected = `${key} ${given[key]}, as the given architecture has`
    throw new FormatError({ file: place.file, expected, found: `${found[key]}` })
  }
}

const agreedKeys = [
  ...(['numLayers', 'hiddenSize', 'ffnHiddenSize', 'numAttentionHeads', 'numQueryGroups', 'kvChannels'] as const),
  ...(['tiedEmbeddings', 'addQkvBias', 'qkNorm'] as const),
]

// Takes the entry out, so that what no rule asks for stays behind.
function takeTensor(
  weight: StageWeight,
  place: { file: string; rank: number; entries: Map<string, PickleValue> | undefined },
): PickleTensor {
  const value = place.entries?.get(weight.key)
  place.entries?.delete(weight.key)
  const { shape } = weight.plan.shards[place.rank]!
  const isTensor = typeof value === 'object' && value !== null && 'type' in value && value.type === 'tensor'
  const found = isTensor ? `[${value.shape}]` : value === undefined ? 'none' : 'something else'
  if (isTensor && found === `[${shape}]`) return value
  throw new FormatError({ file: place.file, expected: `tensor '${weight.key}' of shape [${shape}]`, found })
}

function refuseLeftOver(entries: ReadonlyMap<string, PickleValue>, file: string): void {
  for (const [key] of entries) {
    if (key.endsWith('._extra_state')) continue
    throw new FormatError({ file, expected: 'only weights of the model', found: `'${key}', which no rule knows` })
  }
}
