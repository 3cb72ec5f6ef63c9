import { hostname } from 'node:os'
import { InputError } from '../errors.ts'
import type { TrainOptions } from './arguments.ts'
import { microBatch, type Samples } from './batches.ts'
import type { Engine } from './engine.ts'
import type { RunPosition } from './resume-state.ts'
import { learningRateAt, learningRateSchedule } from './schedule.ts'

/** What one iteration gave, and where the run stands after it. */
export interface IterationResult {
  readonly position: RunPosition
  /** Mean over the micro-batches of each one's mean loss. */
  readonly loss: number
  readonly gradNorm: number
  /** The gradients were not finite and changed no weight. */
  readonly skipped: boolean
  /** The rate of the next iteration, which is the one that Megatron prints. */
  readonly learningRate: number
}

/** So many iterations in a row whose gradients are not finite end a run: float32 has no loss scale that could mend it. */
const skippedLimit = 5

/**
 * Learns from one global batch: gradients of its micro-batches are averaged, then the weights move once.
 *
 * Data parallelism is folded into the micro-batches: the mean over all of them is what Megatron's ranks average to.
 * Source: Megatron-LM core_r0.6.0, training.py, `train_step`; ModelLink, pretrain_gpt.py, `loss_func`.
 * @throws InputError when a micro-batch has no label to learn from, when a loss is not finite, and when gradients were
 * not finite five times in a row.
 */
export async function trainIteration(
  engine: Engine,
  samples: Samples,
  options: TrainOptions,
  before: RunPosition,
): Promise<IterationResult> {
  const microBatches = options.globalBatchSize / options.microBatchSize
  let sum = 0
  // One after another: gradients add up in a fixed order.
  for (let i = 0; i < microBatches; i++) {
    const first = before.consumedSamples + i * options.microBatchSize
    const { tokens, labels } = microBatch(samples, first, options)
    const { loss, count } = await engine.accumulate(tokens, labels, { scale: 1 / microBatches })
    if (count === 0 || !Number.isFinite(loss)) throw noLoss({ loss, count, first, samples, before, options })
    sum += loss
  }
  const schedule = learningRateSchedule(options)
  const { gradNorm, skipped } = await engine.update({
    learningRate: learningRateAt(schedule, before.scheduleSamples),
    step: before.updates + 1,
    beta1: options.adamBeta1,
    beta2: options.adamBeta2,
    epsilon: options.adamEps,
    weightDecay: options.weightDecay,
    clipGrad: options.clipGrad,
  })
  if (skipped && before.skippedInARow + 1 === skippedLimit) throw stuck(before, gradNorm)
  const scheduleSamples = before.scheduleSamples + (skipped ? 0 : options.globalBatchSize)
  const loss = sum / microBatches
  return {
    position: {
      ...before,
      iteration: before.iteration + 1,
      consumedSamples: before.consumedSamples + options.globalBatchSize,
      scheduleSamples,
      updates: before.updates + (skipped ? 0 : 1),
      skippedIterations: before.skippedIterations + (skipped ? 1 : 0),
      skippedInARow: skipped ? before.skippedInARow + 1 : 0,
      lastLoss: loss,
    },
    loss,
    gradNorm,
    skipped,
    learningRate: learningRateAt(schedule, scheduleSamples),
  }
}

function stuck(before: RunPosition, gradNorm: number): InputError {
  const first = before.iteration + 2 - skippedLimit
  return new InputError(
    `found NaN in local grad norm: the gradients of iterations ${first} to ${before.iteration + 1} are not finite (norm ${gradNorm}).`,
    { hint: 'The run has diverged. Lower --lr, warm up longer, or start from sound weights.' },
  )
}

function noLoss(failure: {
  readonly loss: number
  readonly count: number
  readonly first: number
  readonly samples: Samples
  readonly before: RunPosition
  readonly options: TrainOptions
}): InputError {
  const { loss, count, first, samples, before, options } = failure
  const rows = Array.from({ length: options.microBatchSize }, (_, i) => samples.describe(first + i))
  // The first sentence is Megatron's, which log watchers know.
  const message = `Rank 0: found NaN in local forward loss calculation. Device: cpu, node: ${hostname()}`
  const where = `iteration ${before.iteration + 1}, samples ${first} to ${first + options.microBatchSize - 1} (${rows.slice(0, 4).join('; ')})`
  if (count === 0) {
    return new InputError(
      `${message}\nNo label is left to learn from in ${where}: all are masked within ${options.seqLength} tokens.`,
      {
        hint: 'Raise --seq-length or --micro-batch-size, or leave such rows out.',
      },
    )
  }
  return new InputError(`${message}\nThe loss is ${loss} in ${where}.`, {
    hint: 'Lower --lr, or start from sound weights.',
  })
}
