import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { iterationFolder, readTracker, trackerPath } from '../checkpoint/megatron-folder.ts'
import { type MegatronCheckpointSource, openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { trainerStateName } from '../checkpoint/trainer-state.ts'
import { InputError } from '../errors.ts'
import type { TrainOptions } from './arguments.ts'
import type { Parameter } from './parameter.ts'
import type { RunPosition } from './resume-state.ts'
import { byteView, isAdapter, loadValues, startAdapters, weightValues } from './weights.ts'

/** The state that a run goes on from. */
export interface EarlierState {
  readonly file: string
  /** The folder of checkpoints that it is in. */
  readonly dir: string
  /** True for the run's own `--save`: then it is the same run, which goes on as if it had not been interrupted. */
  readonly isOwn: boolean
}

/**
 * The state that a run goes on from: in its `--save`, otherwise, without `--finetune`, beside what it loads. Undefined
 * when there is none.
 * @throws InputError when the newest checkpoint in `--save` was not written by this trainer.
 */
export async function earlierState(options: TrainOptions): Promise<EarlierState | undefined> {
  const { save, load, loraLoad = load, finetune, noLoadOptim } = options
  const own = await resumableState(save)
  if (own !== undefined) return { file: own, dir: save!, isOwn: true }
  if (finetune || noLoadOptim) return undefined
  const file = join(loraLoad, iterationFolder(await readTracker(loraLoad)), trainerStateName)
  return existsSync(file) ? { file, dir: loraLoad, isOwn: false } : undefined
}

async function resumableState(save: string | undefined): Promise<string | undefined> {
  if (save === undefined || !existsSync(trackerPath(save))) return undefined
  const iteration = await readTracker(save)
  const state = join(save, iterationFolder(iteration), trainerStateName)
  if (existsSync(state)) return state
  throw new InputError(
    `${save} holds a checkpoint of iteration ${iteration} without ${trainerStateName}, so it cannot be continued exactly.`,
    {
      hint: `Choose another --save; to start from its weights, give it as --load with --finetune.`,
    },
  )
}

/** The checkpoint whose count of iterations a new run goes on from. */
export type LoadedFrom = Pick<MegatronCheckpointSource, 'iteration' | 'consumedTrainSamples'>

/**
 * Where a run starts that continues nothing: Megatron's rule for `--load`.
 *
 * With `--finetune` at iteration 0; without, at the checkpoint's, which is 1 for converted weights.
 * Source: Megatron-LM core_r0.6.0, checkpointing.py, `load_checkpoint`; training.py, consumed samples.
 * @throws InputError when Megatron's optimizer state is asked for, which this trainer does not read.
 */
export function startPosition(options: TrainOptions, loaded: LoadedFrom): RunPosition {
  if (!options.finetune && !options.noLoadOptim) {
    throw new InputError(
      `Unable to load optimizer from checkpoint ${options.load}: the embedded trainer reads none but its own, and there is none.`,
      {
        hint: 'Specify --no-load-optim or --finetune to prevent attempting to load the optimizer state.',
      },
    )
  }
  const iteration = options.finetune || loaded.iteration === 'release' ? 0 : loaded.iteration
  const consumedSamples = iteration === 0 ? 0 : loaded.consumedTrainSamples || iteration * options.globalBatchSize
  return { iteration, consumedSamples, scheduleSamples: 0, updates: 0, skippedIterations: 0, skippedInARow: 0 }
}

/**
 * Fills the engine with the weights of `--load` and, for a LoRA run, its adapters: those of `--lora-load` or new ones.
 *
 * Gives the checkpoint whose iteration counts: the adapters', where there is one.
 */
export async function loadWeights(
  parameters: readonly Parameter[],
  base: MegatronCheckpointSource,
  { options, signal }: { readonly options: TrainOptions; readonly signal?: AbortSignal | undefined },
): Promise<LoadedFrom> {
  const dense = parameters.filter(parameter => !isAdapter(parameter))
  await loadValues(base, weightValues(dense), { from: options.load, signal })
  if (options.lora && options.loraLoad === undefined) startAdapters(parameters, options.seed)
  if (options.loraLoad === undefined) return base

  const adapters = await openMegatronCheckpoint(options.loraLoad, { architecture: base.architecture })
  try {
    checkAdapters(options, adapters)
    // A LoRA checkpoint repeats embedding and output layer; they count, as they do for ModelLink.
    const held = parameters.filter(parameter => isAdapter(parameter) || adapters.tensors.has(parameter.name))
    await loadValues(adapters, weightValues(held), { from: options.loraLoad, signal })
    return adapters
  } finally {
    await adapters.close()
  }
}

/** Names the frozen weights: a LoRA run can only be continued on the very weights that it was started on. */
export function frozenDigest(parameters: readonly Parameter[]): string {
  const hash = createHash('sha256')
  for (const { weight } of parameters.filter(parameter => !parameter.trainable)) {
    const bytes = byteView(weight)
    // Copies: hashing does not take memory that is shared between threads.
    for (let at = 0; at < bytes.length; at += 1 << 20) hash.update(bytes.slice(at, at + (1 << 20)))
  }
  return hash.digest('hex')
}

function checkAdapters(options: TrainOptions, { lora }: MegatronCheckpointSource): void {
  const say = (settings: { r: number; alpha: number; targets: readonly string[] } | undefined) =>
    settings
      ? `r ${settings.r}, alpha ${settings.alpha}, targets ${[...settings.targets].sort().join(' ')}`
      : 'no adapters'
  if (say(lora) !== say(options.lora)) {
    throw new InputError(
      `--lora-load ${options.loraLoad} has ${say(lora)}; the arguments ask for ${say(options.lora)}.`,
    )
  }
}
