import { isDeepStrictEqual } from 'node:util'
import { InputError, LayoutError, UnsupportedError } from '../errors.ts'
import type { Known } from '../flow/call.ts'
import { checkLayout } from '../layout/legality.ts'
import type { LayoutFlags } from '../layout/proposal.ts'
import { guideIterations, trainingIterations } from '../layout/training-iterations.ts'
import { type TrainingSchedule, trainingSchedule } from '../layout/training-schedule.ts'
import type { Architecture } from '../models/architecture.ts'
import { sizesOf, sizesText } from './parallel-sizes.ts'
import type { TrainInput } from './train-input.ts'

/**
 * Checks every number that is known against the others, by the toolchain's rules.
 * @returns The layout in words.
 */
export function checkTraining(known: Known<TrainInput>): string {
  const { parallel, init, nodes = 1, microBatchSize = 1, globalBatchSize, seqLength, dtype } = known
  const { lr, minLr, lrDecayIters, lrWarmupIters, lrWarmupFraction } = known
  const tp = parallel?.tp ?? init?.tp
  const pp = parallel?.pp ?? init?.pp
  if (tp === undefined || pp === undefined) return 'layout known after conversion'
  const cp = parallel?.cp ?? 1
  const worldSize = nodes * (known.devicesPerNode ?? Math.ceil((tp * pp * cp) / nodes))
  const { architecture = {} } = init ?? {}
  const maxPositionEmbeddings = known.maxPositionEmbeddings ?? architecture.maxPositionEmbeddings
  checkLayout({
    model: { ...architecture, maxPositionEmbeddings },
    layout: {
      ...{ tp, pp, cp, worldSize },
      layersPerStage: init?.layersPerStage,
      layersPerVirtualStage: init?.layersPerVirtualStage,
    },
    batch: { microBatchSize, globalBatchSize, seqLength },
    flags: {
      replicateQueryGroups: true,
      ...{ useMcoreModels: init?.layout === 'mcore', bf16: dtype === 'bf16', fp16: dtype === 'fp16' },
      ...recomputeFlags(known),
      useDistributedOptimizer: known.distributedOptimizer,
      ...{ lr, minLr, trainIters: iterationsOf(known), lrDecayIters, lrWarmupIters, lrWarmupFraction },
    },
  })
  if (!known.toolchain) refuseOnCpu(known)
  const cut = cutAnew(known)
  // Plans reshard what they know of; this was not known when the plan was made.
  if (cut && init?.tp && init.pp)
    throw new LayoutError(
      `training at ${sizesText(cut)} does not fit weights cut at ${sizesText({ ...init, tp: init.tp, pp: init.pp })}.`,
      {
        hint: init.loraBase
          ? 'Train adapters in the layout that they have, or reshard them and their base first.'
          : 'Run it again: then the plan knows how they are cut and reshards them.',
      },
    )
  checkStart(known)
  const dp = worldSize / (tp * pp * cp)
  const micro = globalBatchSize === undefined ? '' : ` · ${globalBatchSize / (microBatchSize * dp)} micro batches`
  return `tp ${tp} · pp ${pp}${cp === 1 ? '' : ` · cp ${cp}`} · dp ${dp}${micro}`
}

/** As the toolchain's flags say it: some layers of each stage are a block, all of them are uniform shares of one. */
function recomputeFlags({ recompute = 'none', recomputeNumLayers }: Known<TrainInput>): LayoutFlags {
  if (recompute !== 'full' && recomputeNumLayers !== undefined)
    throw new InputError(`recomputeNumLayers ${recomputeNumLayers} goes with recompute: 'full', not '${recompute}'.`, {
      field: 'recomputeNumLayers',
    })
  if (recompute === 'none') return {}
  if (recompute === 'selective') return { recomputeGranularity: recompute }
  const recomputeMethod = recomputeNumLayers === undefined ? 'uniform' : 'block'
  return { recomputeGranularity: recompute, recomputeMethod, recomputeNumLayers: recomputeNumLayers ?? 1 }
}

/**
 * How the weights have to be cut anew for the training; undefined where they are cut as it needs them, or not known.
 * What `parallel` leaves out stays as it is in `init`: stages too, while their number does.
 */
export function cutAnew({ parallel, init }: Pick<Known<TrainInput>, 'parallel' | 'init'>) {
  const { tp, pp } = init ?? {}
  if (!parallel || !init || !tp || !pp) return undefined
  const { layersPerStage, layersPerVirtualStage } = parallel
  const wanted = { tp: parallel.tp ?? tp, pp: parallel.pp ?? pp }
  const stages = wanted.pp === pp && !layersPerStage && !layersPerVirtualStage ? init : parallel
  const cut = sizesOf({ ...stages, ...wanted })
  return isDeepStrictEqual(cut, sizesOf({ ...init, tp, pp })) ? undefined : cut
}

/** What a training goes on from must leave it something to do. */
function checkStart(known: Known<TrainInput>): void {
  const { finetune = true, init, lora } = known
  if (finetune) return
  if (lora || init?.loraBase)
    throw new UnsupportedError('a training of adapters does not go on from another call yet.', {
      hint: 'Run the call that began it again: it goes on by itself.',
    })
  const iterations = iterationsOf(known)
  if (init?.iteration !== undefined && iterations !== undefined && init.iteration >= iterations)
    throw new InputError(`init is at iteration ${init.iteration}, and the training ends at ${iterations}.`, {
      ...{ field: 'finetune', hint: 'Iterations count from the first of all; raise trainIters or epochs.' },
    })
}

/** Iterations: as given, or from what preprocessing kept; undefined while that is not known. */
export function iterationsOf(known: Known<TrainInput>): number | undefined {
  const { data, seqLength, globalBatchSize, epochs = 1, trainIters } = known
  if (trainIters !== undefined) return trainIters
  const { instruction, samples, tokens } = data ?? {}
  if (!globalBatchSize || !seqLength || samples === undefined || tokens === undefined) return undefined
  return trainingIterations(
    instruction ? { samples, globalBatchSize, epochs } : { tokens, seqLength, globalBatchSize, epochs },
  )
}

/** What happens when in the training, of which `iterations` are known. */
export function scheduleOf(known: Known<TrainInput>, iterations: number): TrainingSchedule {
  const { globalBatchSize = 1, lrDecayIters, lrWarmupIters, lrWarmupFraction, saveInterval, evalInterval } = known
  const asked = { lrDecayIters, lrWarmupIters, lrWarmupFraction, saveInterval, evalInterval }
  return trainingSchedule({ iterations, globalBatchSize, ...asked })
}

/** Iterations and schedule in words, with the number of the vendor's guide where it is another. */
export function scheduleFacts(known: Known<TrainInput>): readonly string[] {
  const iterations = iterationsOf(known)
  if (iterations === undefined) return ['iterations known after preprocessing']
  const { data, globalBatchSize, epochs = 1, trainIters } = known
  const rows = trainIters === undefined ? data?.samples : undefined
  const guide = rows && globalBatchSize ? guideIterations(rows, globalBatchSize, epochs) : iterations
  const other =
    guide === iterations || guide === undefined
      ? ''
      : ` (by the guide's ${rows} / ${globalBatchSize} * ${epochs}: ${guide})`
  const { warmUpIterations, saveInterval } = scheduleOf(known, iterations)
  return [
    `${iterations} iterations${other}`,
    `warm-up ${Math.round(warmUpIterations * 100) / 100}, save every ${saveInterval}`,
  ]
}

/** The embedded trainer has one device, saves equal stages, and computes full attention with plain RoPE. */
function refuseOnCpu({ init, parallel, recompute, distributedOptimizer, seqLength }: Known<TrainInput>): void {
  const choice = [
    parallel?.layersPerStage && 'stages of unequal layers',
    parallel?.layersPerVirtualStage && 'virtual stages',
    (parallel?.cp ?? 1) > 1 && `cp ${parallel?.cp}`,
    recompute && recompute !== 'none' && 'recompute',
    distributedOptimizer && 'distributedOptimizer',
  ].find(Boolean)
  if (choice)
    throw new UnsupportedError(`the embedded trainer has no like of ${choice}.`, {
      hint: 'Name a toolchain to train with on NPUs.',
    })
  refuseOtherAttention(init?.architecture ?? {}, seqLength)
}

function refuseOtherAttention(model: Known<Architecture>, seqLength = 0): void {
  const { ropeScaling, rotaryPercent, alibi, qkNorm, slidingWindow } = model
  const found = [
    ropeScaling && `RoPE scaling '${ropeScaling}'`,
    rotaryPercent && `RoPE on ${rotaryPercent} of each head`,
    alibi && 'ALiBi',
    qkNorm && 'norms of query and key heads',
    slidingWindow &&
      seqLength > slidingWindow &&
      `a window of ${slidingWindow} tokens, less than seqLength ${seqLength},`,
  ].find(Boolean)
  if (found)
    throw new UnsupportedError(`the model has ${found} which the embedded trainer does not compute.`, {
      hint: 'It can be converted, and trained with a toolchain.',
    })
}
