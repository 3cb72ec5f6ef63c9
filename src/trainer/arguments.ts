import { InputError, UnsupportedError } from '../errors.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import { legacyTarget, loraTarget, loraTargets } from '../models/lora-rules.ts'
import { type FlagValues, readCommandLine } from './command-line.ts'
import type { LoraOptions } from './engine-options.ts'

/** Numbers of the model as the command line states them; what it leaves out is taken from the checkpoint. */
export interface StatedModel {
  readonly numLayers?: number | undefined
  readonly hiddenSize?: number | undefined
  readonly ffnHiddenSize?: number | undefined
  readonly numAttentionHeads?: number | undefined
  readonly numQueryGroups?: number | undefined
  readonly kvChannels?: number | undefined
  readonly normEpsilon?: number | undefined
  readonly rotaryBase?: number | undefined
  /** True where stated: Megatron has no flag that says no. */
  readonly addQkvBias?: true | undefined
  /** False where untied weights are stated. */
  readonly tiedEmbeddings?: false | undefined
  readonly paddedVocabSize?: number | undefined
}

/** One training run of the embedded trainer: Megatron's arguments, checked against each other. */
export interface TrainOptions {
  /** Tensor and pipeline parallelism of the checkpoints read and written; the trainer itself computes as 1 × 1. */
  readonly tp: number
  readonly pp: number
  /** Weight names of the checkpoints: mcore with `--use-mcore-models`. */
  readonly layout: 'legacy' | 'mcore'
  /** Type of the weights in the checkpoints written; training itself is in float32. */
  readonly dtype: FloatDtype
  readonly model: StatedModel
  /** The padded vocabulary must be a multiple of this × tp, where given. */
  readonly makeVocabSizeDivisibleBy?: number | undefined
  readonly seqLength: number
  /** Longest sequence that the model is to take; default what the checkpoint says. */
  readonly maxPositionEmbeddings?: number | undefined
  readonly microBatchSize: number
  readonly globalBatchSize: number
  readonly trainIters: number
  readonly lr: number
  readonly minLr: number
  readonly lrDecayStyle: 'cosine' | 'linear' | 'constant'
  readonly lrDecayIters?: number | undefined
  readonly lrWarmupIters: number
  readonly lrWarmupFraction?: number | undefined
  readonly lrWarmupInit: number
  readonly weightDecay: number
  /** Largest norm of the gradients; 0 for no limit. */
  readonly clipGrad: number
  readonly adamBeta1: number
  readonly adamBeta2: number
  readonly adamEps: number
  readonly seed: number
  /** Prefix of the data set: with `_text_document` for pretraining, without `_packed_…` for instruction data. */
  readonly dataPath: string
  readonly validDataPath?: string | undefined
  readonly split: string
  readonly isInstructionDataset: boolean
  readonly load: string
  readonly finetune: boolean
  readonly noLoadOptim: boolean
  readonly save?: string | undefined
  readonly saveInterval?: number | undefined
  readonly logInterval: number
  readonly logThroughput: boolean
  readonly evalInterval: number
  readonly evalIters: number
  readonly lora?: LoraOptions | undefined
  /** Checkpoint of adapters to start from. */
  readonly loraLoad?: string | undefined
  readonly threads?: number | undefined
  readonly numerics: 'reproducible' | 'fast'
}

/**
 * Reads the trainer's command line; defaults are Megatron's, and so are the rules between arguments.
 * Source of both: Megatron-LM core_r0.6.0, megatron/training/arguments.py, `validate_args`.
 * @throws InputError, UnsupportedError naming the argument.
 */
export function parseArguments(argv: readonly string[]): TrainOptions {
  const flags = readCommandLine(argv)
  const microBatchSize = positive(required(flags, 'micro-batch-size'), 'micro-batch-size')
  const options: TrainOptions = {
    tp: positive(flags['tensor-model-parallel-size'] ?? 1, 'tensor-model-parallel-size'),
    pp: positive(flags['pipeline-model-parallel-size'] ?? 1, 'pipeline-model-parallel-size'),
    layout: flags['use-mcore-models'] ? 'mcore' : 'legacy',
    dtype: flags.bf16 ? 'BF16' : flags.fp16 ? 'F16' : 'F32',
    model: statedModel(flags),
    makeVocabSizeDivisibleBy: flags['make-vocab-size-divisible-by'],
    seqLength: positive(required(flags, 'seq-length'), 'seq-length'),
    maxPositionEmbeddings: flags['max-position-embeddings'],
    microBatchSize,
    globalBatchSize: positive(flags['global-batch-size'] ?? microBatchSize, 'global-batch-size'),
    trainIters: positive(required(flags, 'train-iters'), 'train-iters'),
    lr: required(flags, 'lr'),
    minLr: flags['min-lr'] ?? 0,
    lrDecayStyle: oneOf(flags['lr-decay-style'] ?? 'linear', 'lr-decay-style', ['cosine', 'linear', 'constant']),
    lrDecayIters: flags['lr-decay-iters'],
    lrWarmupIters: flags['lr-warmup-iters'] ?? 0,
    lrWarmupFraction: flags['lr-warmup-fraction'],
    lrWarmupInit: flags['lr-warmup-init'] ?? 0,
    weightDecay: flags['weight-decay'] ?? 0.01,
    clipGrad: flags['clip-grad'] ?? 1,
    adamBeta1: flags['adam-beta1'] ?? 0.9,
    adamBeta2: flags['adam-beta2'] ?? 0.999,
    adamEps: flags['adam-eps'] ?? 1e-8,
    seed: flags.seed ?? 1234,
    dataPath: dataPath(flags),
    validDataPath: flags['valid-data-path'] && onePrefix(flags['valid-data-path'], 'valid-data-path'),
    // Data of its own for validation leaves the whole of the other to training, as `--train-data-path` has it.
    split: flags.split ?? (flags['valid-data-path'] ? '100,0,0' : '969, 30, 1'),
    isInstructionDataset: flags['is-instruction-dataset'] ?? false,
    load: required(flags, 'load'),
    finetune: flags.finetune ?? false,
    noLoadOptim: flags['no-load-optim'] ?? false,
    save: flags.save,
    saveInterval: flags['save-interval'],
    logInterval: positive(flags['log-interval'] ?? 100, 'log-interval'),
    logThroughput: flags['log-throughput'] ?? false,
    evalInterval: positive(flags['eval-interval'] ?? 1000, 'eval-interval'),
    evalIters: flags['eval-iters'] ?? 100,
    lora: loraOptions(flags),
    loraLoad: flags['lora-load'],
    threads: flags.threads,
    numerics: oneOf(flags.numerics ?? 'reproducible', 'numerics', ['reproducible', 'fast']),
  }
  checkRules(options, flags)
  return options
}

function statedModel(flags: FlagValues): StatedModel {
  return {
    numLayers: flags['num-layers'],
    hiddenSize: flags['hidden-size'],
    ffnHiddenSize: flags['ffn-hidden-size'],
    numAttentionHeads: flags['num-attention-heads'],
    numQueryGroups: flags['num-query-groups'] ?? (flags['group-query-attention'] && 1),
    kvChannels: flags['kv-channels'],
    normEpsilon: flags['norm-epsilon'],
    rotaryBase: flags['rotary-base'],
    addQkvBias: flags['add-qkv-bias'],
    tiedEmbeddings: flags['untie-embeddings-and-output-weights'] ? false : undefined,
    paddedVocabSize: flags['padded-vocab-size'],
  }
}

function dataPath(flags: FlagValues): string {
  if (flags['data-path'] && flags['train-data-path'])
    throw new InputError('Both --data-path and --train-data-path are given.')
  if (flags['train-data-path']) return onePrefix(flags['train-data-path'], 'train-data-path')
  return onePrefix(required(flags, 'data-path'), 'data-path')
}

function onePrefix(words: readonly string[], flag: string): string {
  if (words.length > 1) {
    throw new UnsupportedError(
      `--${flag} ${words.join(' ')}: the embedded trainer reads one data set, no weighted blend.`,
    )
  }
  return words[0] as string
}

function loraOptions(flags: FlagValues): LoraOptions | undefined {
  const modules = flags['lora-target-modules']
  if (!modules) {
    for (const flag of ['lora-r', 'lora-alpha', 'lora-load'] as const) {
      if (flags[flag] !== undefined)
        throw new InputError(`--${flag} needs --lora-target-modules; without, all weights would train.`)
    }
    return undefined
  }
  const targets = modules.map(module => {
    const target = loraTarget(module)
    if (!target) {
      const known = [...loraTargets.map(legacyTarget), ...loraTargets].join(', ')
      throw new InputError(`--lora-target-modules ${module}: expected ${known}.`)
    }
    return target
  })
  return {
    r: positive(flags['lora-r'] ?? 16, 'lora-r'),
    alpha: flags['lora-alpha'] ?? 32,
    targets: loraTargets.filter(target => targets.includes(target)),
  }
}

function checkRules(options: TrainOptions, flags: FlagValues): void {
  const { microBatchSize, globalBatchSize, seqLength, maxPositionEmbeddings, lr, minLr } = options
  const decayIters = options.lrDecayIters ?? options.trainIters
  const warmupIters =
    options.lrWarmupFraction === undefined ? options.lrWarmupIters : options.lrWarmupFraction * decayIters
  const rules: readonly (readonly [holds: boolean, otherwise: string])[] = [
    [
      globalBatchSize % microBatchSize === 0,
      `global batch size (${globalBatchSize}) is not divisible by micro batch size (${microBatchSize}).`,
    ],
    [
      maxPositionEmbeddings === undefined || maxPositionEmbeddings >= seqLength,
      `--max-position-embeddings ${maxPositionEmbeddings} is less than --seq-length ${seqLength}.`,
    ],
    [lr >= 0 && minLr >= 0 && minLr <= lr, `--min-lr ${minLr} and --lr ${lr}: expected 0 ≤ min-lr ≤ lr.`],
    [
      options.lrWarmupInit >= 0 && options.lrWarmupInit <= lr,
      `--lr-warmup-init ${options.lrWarmupInit}: expected a rate from 0 to --lr ${lr}.`,
    ],
    [
      !(flags['lr-warmup-fraction'] !== undefined && options.lrWarmupIters > 0),
      '--lr-warmup-fraction and --lr-warmup-iters are both given; choose one.',
    ],
    [
      decayIters > 0 && warmupIters >= 0 && warmupIters < decayIters,
      `The warm-up takes ${warmupIters} of ${decayIters} iterations; it must end before the decay does.`,
    ],
    [!(flags.bf16 && flags.fp16), '--bf16 and --fp16 are both given; choose one.'],
    [options.save === undefined || (options.saveInterval ?? 0) > 0, '--save needs --save-interval, at least 1.'],
    [
      options.seed >= 0 && options.seed <= 0xffffffff,
      `--seed ${options.seed}: expected a whole number from 0 to 4294967295.`,
    ],
    [options.evalIters >= 0, `--eval-iters ${options.evalIters}: expected 0 or more.`],
    [options.threads === undefined || options.threads >= 1, `--threads ${options.threads}: expected 1 or more.`],
    [
      [options.adamBeta1, options.adamBeta2].every(beta => beta >= 0 && beta < 1),
      `--adam-beta1 ${options.adamBeta1} and --adam-beta2 ${options.adamBeta2}: expected numbers from 0 to below 1.`,
    ],
    [
      [options.adamEps, options.weightDecay, options.clipGrad].every(value => value >= 0),
      '--adam-eps, --weight-decay and --clip-grad cannot be negative.',
    ],
    [
      !(
        flags['valid-data-path'] &&
        flags.split !== undefined &&
        !/^\s*[\d.]+(\s*[,/]\s*0+(\.0*)?)*\s*$/.test(flags.split)
      ),
      `--split ${flags.split} sets validation data aside, and --valid-data-path names other; choose one.`,
    ],
  ]
  for (const [holds, otherwise] of rules) if (!holds) throw new InputError(otherwise)
}

function required<name extends keyof FlagValues>(flags: FlagValues, name: name): NonNullable<FlagValues[name]> {
  const value = flags[name]
  if (value === undefined) throw new InputError(`--${name} is missing.`)
  return value
}

function positive(value: number, flag: string): number {
  if (value < 1) throw new InputError(`--${flag} ${value}: expected 1 or more.`)
  return value
}

function oneOf<const value extends string>(given: string, flag: string, values: readonly value[]): value {
  const found = values.find(value => value === given)
  if (found === undefined) throw new InputError(`--${flag} ${given}: expected ${values.join(', ')}.`)
  return found
}
