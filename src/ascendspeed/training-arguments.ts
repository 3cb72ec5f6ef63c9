import { join } from 'node:path'
import { InputError, LayoutError, UnsupportedError } from '../errors.ts'
import { torchrun, type Word } from '../flow/launch.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import { defaultWarmupFraction } from '../layout/training-schedule.ts'
import type { Architecture } from '../models/architecture.ts'
import { type LoraTarget, legacyTarget } from '../models/lora-rules.ts'
import { refuseModel } from './converter-models.ts'
import { generationFacts } from './generations.ts'
import { modelArguments, tokenizerArguments, trainedQueryGroups } from './model-arguments.ts'
import {
  refuseUnknownFlags,
  stageWords,
  type Toolchain,
  type ToolchainCommand,
  type ToolchainParallel,
} from './toolchain.ts'
import { trainingEnvironment } from './training-environment.ts'

/** One training on the toolchain; the names are those of the `train` step where it has them. */
export interface ToolchainTraining {
  readonly architecture: Architecture
  readonly layout: 'legacy' | 'mcore'
  readonly parallel: ToolchainParallel & { readonly cp?: number | undefined }
  readonly recompute?: 'none' | 'selective' | 'full' | undefined
  /** Layers of each stage or chunk that `full` computes again; default all. */
  readonly recomputeNumLayers?: number | undefined
  readonly distributedOptimizer?: boolean | undefined
  readonly nodes: number
  readonly devicesPerNode: number
  /** Whether all nodes see the same files; default true. */
  readonly sharedStorage?: boolean | undefined
  /** `path` as `--data-path` takes it: with `_text_document` for text, without `_packed_…` for instructions. */
  readonly data: { readonly path: string; readonly instruction: boolean }
  /** Text to measure on. The toolchain has no such thing for instructions. */
  readonly validation?: { readonly path: string; readonly evalInterval: number; readonly evalIters: number } | undefined
  /** Where index caches of text go; default beside the data. */
  readonly dataCache?: string | undefined
  /** Folder with the tokenizer's files. */
  readonly tokenizer: string
  /** Template that changes the tokenizer's special tokens; not before RC3. */
  readonly promptType?: string | undefined
  /** Checkpoint to start from. */
  readonly load: string
  readonly save: string
  /** Whether `load` gives weights alone; default true. Otherwise its iteration, optimizer and schedule count. */
  readonly finetune?: boolean | undefined
  /** Whether `load` has states of random number generators to go on with; default true. */
  readonly loadRng?: boolean | undefined
  /** Go on from what is in `save`; `load` then only counts for LoRA, as its base. */
  readonly resume?: boolean | undefined
  readonly seqLength: number
  readonly maxPositionEmbeddings?: number | undefined
  readonly paddedVocabSize?: number | undefined
  readonly microBatchSize: number
  readonly globalBatchSize: number
  readonly trainIters: number
  readonly lr: number
  readonly minLr: number
  readonly lrDecayStyle: 'cosine' | 'linear' | 'constant'
  /** Iterations until the rate is `minLr`; default all. */
  readonly lrDecayIters?: number | undefined
  /** Share of the decay that warms up; default 0.01, as in the example scripts. */
  readonly lrWarmupFraction?: number | undefined
  /** Iterations that warm up, instead of a share. */
  readonly lrWarmupIters?: number | undefined
  readonly weightDecay: number
  readonly clipGrad: number
  readonly adamBeta1: number
  readonly adamBeta2: number
  readonly seed: number
  readonly dtype: 'bf16' | 'fp16'
  readonly saveInterval: number
  readonly logInterval: number
  readonly lora?: { readonly r: number; readonly alpha: number; readonly targets: readonly LoraTarget[] } | undefined
}

/**
 * The command that trains on every node: pretraining, full fine-tuning (`data.instruction`) or LoRA (`lora`).
 *
 * A start from weights alone is `--finetune`, which counts from iteration 0; the example scripts for pretraining leave it out, and
 * their first iteration is 2. A checkpoint that is missing ends the job instead of training random weights.
 * Source: Megatron-LM core_r0.6.0, megatron/training/checkpointing.py:626-808; ModelLink's example scripts.
 * @throws LayoutError, InputError, UnsupportedError naming what the model or the generation cannot do.
 */
export function trainCommand(toolchain: Toolchain, training: ToolchainTraining): ToolchainCommand {
  const { generation, dir } = toolchain
  const { architecture, layout, parallel, nodes, devicesPerNode } = training
  refuseModel(generation, training)
  checkModelLayout({ ...architecture, numQueryGroups: trainedQueryGroups(architecture, parallel.tp) }, parallel)
  checkTraining(training)
  const facts = generationFacts[generation]
  const fineTuning = training.data.instruction || training.lora !== undefined
  const words: readonly Word[] = [
    ...parallelWords(training),
    ...modelArguments(generation, { ...training, architecture, layout, tp: parallel.tp }),
    ...['--seq-length', training.seqLength],
    ...tokenizerArguments(architecture, { tokenizer: training.tokenizer, instruction: training.data.instruction }),
    ...(generation === 'mindspeed-llm' && fineTuning ? ['--stage', 'sft'] : []),
    ...promptWords(toolchain, training),
    ...dataWords(training),
    ...batchWords(training),
    ...loadWords(training),
    ...loraWords(training),
    ...computeWords(training),
  ]
  refuseUnknownFlags(generation, { parsers: ['train'], args: words })
  const script = join(dir, fineTuning ? facts.finetune : facts.pretrain)
  const env = trainingEnvironment(generation, { nodes })
  return { ...torchrun(script, words, { nodes, devicesPerNode, env }), dir, generation, parsers: ['train'] }
}

function parallelWords(training: ToolchainTraining): readonly Word[] {
  const { parallel, nodes, sharedStorage = true, distributedOptimizer = false } = training
  const { tp, pp, cp = 1 } = parallel
  return [
    ...['--tensor-model-parallel-size', tp, '--pipeline-model-parallel-size', pp, ...stageWords(parallel)],
    ...(tp > 1 ? ['--sequence-parallel'] : []),
    ...(cp > 1 ? ['--context-parallel-size', cp] : []),
    ...(distributedOptimizer ? ['--use-distributed-optimizer'] : []),
    ...recomputeWords(training),
    ...(nodes > 1 && !sharedStorage ? ['--no-shared-storage'] : []),
  ]
}

/** `uniform` shares of one layer are all layers, each by itself; `block` are the first layers of each stage. */
function recomputeWords({ recompute = 'none', recomputeNumLayers }: ToolchainTraining): readonly Word[] {
  if (recompute === 'none') return []
  const method = recomputeNumLayers === undefined ? 'uniform' : 'block'
  const full = ['--recompute-method', method, '--recompute-num-layers', recomputeNumLayers ?? 1]
  return ['--recompute-granularity', recompute, ...(recompute === 'full' ? full : [])]
}

function promptWords({ generation }: Toolchain, { promptType }: ToolchainTraining): readonly Word[] {
  if (promptType === undefined) return []
  if (generation === 'modellink-1.0' || generation === 'modellink-1.1')
    throw new UnsupportedError(`${generationFacts[generation].title} knows no promptType; ModelLink 1.0.RC3 does.`)
  return ['--prompt-type', promptType]
}

function dataWords({ data, validation, dataCache }: ToolchainTraining): readonly Word[] {
  const cache = dataCache === undefined || data.instruction ? [] : ['--data-cache-path', { write: dataCache }]
  if (data.instruction && validation)
    throw new UnsupportedError('The toolchain cannot measure instruction training on data of its own.')
  if (!validation) {
    // Of instructions the toolchain writes orders of rows beside them: `…_indexmap_…_decoder_packed_shuffle_idx.npy`.
    const source = data.instruction ? [{ write: data.path }, '--is-instruction-dataset'] : [{ read: data.path }]
    return ['--data-path', ...source, ...cache, '--split', '100,0,0', '--eval-iters', 0]
  }
  return [
    ...['--train-data-path', { read: data.path }, '--valid-data-path', { read: validation.path }, ...cache],
    ...['--eval-interval', validation.evalInterval, '--eval-iters', validation.evalIters],
  ]
}

function batchWords(training: ToolchainTraining): readonly Word[] {
  return [
    ...['--micro-batch-size', training.microBatchSize, '--global-batch-size', training.globalBatchSize],
    ...['--train-iters', training.trainIters, '--lr', training.lr, '--min-lr', training.minLr],
    ...['--lr-decay-style', training.lrDecayStyle, ...warmupWords(training)],
    ...['--weight-decay', training.weightDecay, '--clip-grad', training.clipGrad],
    ...['--adam-beta1', training.adamBeta1, '--adam-beta2', training.adamBeta2],
    ...['--init-method-std', 0.01, '--seed', training.seed],
  ]
}

function warmupWords({ lrDecayIters, lrWarmupFraction, lrWarmupIters }: ToolchainTraining): readonly Word[] {
  if (lrWarmupFraction !== undefined && lrWarmupIters !== undefined)
    throw new InputError('lrWarmupFraction and lrWarmupIters are both given; choose one.')
  return [
    ...(lrDecayIters === undefined ? [] : ['--lr-decay-iters', lrDecayIters]),
    ...(lrWarmupIters === undefined
      ? ['--lr-warmup-fraction', lrWarmupFraction ?? defaultWarmupFraction]
      : ['--lr-warmup-iters', lrWarmupIters]),
  ]
}

/** LoRA has its base in `load` always: its own checkpoints hold adapters, and their iteration. */
function loadWords(training: ToolchainTraining): readonly Word[] {
  const { load, save, saveInterval, logInterval, resume, lora, finetune = true, loadRng = true } = training
  const fresh = finetune ? ['--finetune', '--no-load-optim', '--no-load-rng'] : loadRng ? [] : ['--no-load-rng']
  return [
    ...['--load', { read: resume && !lora ? save : load }],
    ...(resume ? (lora ? ['--lora-load', { read: save }] : []) : fresh),
    ...['--exit-on-missing-checkpoint', '--save', { write: save }],
    ...['--save-interval', saveInterval, '--log-interval', logInterval, '--log-throughput'],
  ]
}

function loraWords({ lora, layout }: ToolchainTraining): readonly Word[] {
  if (!lora) return []
  const targets = lora.targets.map(target => (layout === 'mcore' ? target : legacyTarget(target)))
  return ['--lora-r', lora.r, '--lora-alpha', lora.alpha, '--lora-target-modules', ...targets]
}

function computeWords({ dtype }: ToolchainTraining): readonly Word[] {
  return [
    ...['--use-flash-attn', '--use-fused-rmsnorm', '--use-fused-swiglu', '--no-masked-softmax-fusion'],
    ...['--attention-softmax-in-fp32', '--no-gradient-accumulation-fusion', '--distributed-backend', 'nccl'],
    ...(dtype === 'fp16' ? ['--fp16', '--initial-loss-scale', 4096] : ['--bf16']),
  ]
}

function checkTraining(training: ToolchainTraining): void {
  const { architecture, seqLength, maxPositionEmbeddings, lora } = training
  const positions = maxPositionEmbeddings ?? architecture.maxPositionEmbeddings
  if (seqLength > positions) throw new LayoutError(`seqLength ${seqLength} is more than ${positions} positions.`)
  if (architecture.slidingWindow !== undefined && seqLength > architecture.slidingWindow)
    throw new UnsupportedError(`a window of ${architecture.slidingWindow} tokens is less than seqLength ${seqLength}.`)
  if (lora && !(Number.isSafeInteger(lora.r) && Number.isSafeInteger(lora.alpha)))
    throw new InputError(`lora r ${lora.r} and alpha ${lora.alpha}: the toolchain takes whole numbers.`)
}
