/** How the learning rate moves; all lengths count samples, as in Megatron. */
export interface LearningRateSchedule {
  readonly style: 'cosine' | 'linear' | 'constant'
  /** Rate at the end of the warm-up. */
  readonly maxRate: number
  /** Rate that the decay ends at, and stays at. */
  readonly minRate: number
  /** Rate that the warm-up starts from. */
  readonly initialRate: number
  /** Samples of linear warm-up; may be fractional, from `lrWarmupFraction`. */
  readonly warmupSamples: number
  /** Samples after which `minRate` is reached, the warm-up included. */
  readonly decaySamples: number
}

export interface ScheduleOptions {
  readonly lr: number
  readonly minLr: number
  readonly lrDecayStyle: 'cosine' | 'linear' | 'constant'
  readonly trainIters: number
  readonly globalBatchSize: number
  /** Iterations until `minLr`; default `trainIters`. */
  readonly lrDecayIters?: number | undefined
  readonly lrWarmupIters: number
  /** Share of the decay that is warm-up; wins over `lrWarmupIters`. */
  readonly lrWarmupFraction?: number | undefined
  readonly lrWarmupInit: number
}

/** Turns iterations into the schedule's samples. Source: Megatron-LM core_r0.6.0, `get_optimizer_param_scheduler`. */
export function learningRateSchedule(options: ScheduleOptions): LearningRateSchedule {
  const decaySamples = (options.lrDecayIters ?? options.trainIters) * options.globalBatchSize
  return {
    style: options.lrDecayStyle,
    maxRate: options.lr,
    minRate: options.minLr,
    initialRate: options.lrWarmupInit,
    warmupSamples:
      options.lrWarmupFraction === undefined
        ? options.lrWarmupIters * options.globalBatchSize
        : options.lrWarmupFraction * decaySamples,
    decaySamples,
  }
}

/**
 * The learning rate once `samples` samples were learnt from.
 *
 * Megatron updates the weights of iteration k with the rate at (k - 1) batches and prints the rate at k batches;
 * a skipped iteration does not advance `samples`.
 * Source: Megatron-LM core_r0.6.0, optimizer_param_scheduler.py, `OptimizerParamScheduler.get_lr`.
 */
export function learningRateAt(schedule: LearningRateSchedule, samples: number): number {
  const { style, maxRate, minRate, initialRate, warmupSamples, decaySamples } = schedule
  if (warmupSamples > 0 && samples <= warmupSamples) {
    return initialRate + ((maxRate - initialRate) * samples) / warmupSamples
  }
  if (style === 'constant') return maxRate
  if (samples > decaySamples) return minRate
  const ratio = (samples - warmupSamples) / (decaySamples - warmupSamples)
  const share = style === 'linear' ? 1 - ratio : 0.5 * (Math.cos(Math.PI * ratio) + 1)
  return minRate + share * (maxRate - minRate)
}
