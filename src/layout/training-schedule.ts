export interface TrainingScheduleOptions {
  readonly iterations: number
  readonly globalBatchSize: number
  readonly lrDecayIters?: number | undefined
  readonly lrWarmupIters?: number | undefined
  /** Of the decay iterations; not used with `lrWarmupIters`. */
  readonly lrWarmupFraction?: number | undefined
  readonly saveInterval?: number | undefined
  readonly evalInterval?: number | undefined
}

/** What happens when in a training, in iterations. */
export interface TrainingSchedule {
  /** Samples that are seen, repeated ones counted again. */
  readonly samples: number
  /** May be a fraction: Megatron warms up by samples. */
  readonly warmUpIterations: number
  readonly decayIterations: number
  readonly saveInterval: number
  /** Checkpoints written, the one after the last iteration included. */
  readonly saves: number
  readonly evalInterval: number
}

/**
 * Works out warm-up, decay and intervals as Megatron does, with defaults: decay over all iterations, a hundredth of
 * them as warm-up, ten checkpoints but at least 10 iterations apart, measuring after the last iteration.
 * Source: Megatron-LM core_r0.6.0, megatron/training/training.py:439-447 and :278-280, :1188-1195 (saves).
 */
export function trainingSchedule(options: TrainingScheduleOptions): TrainingSchedule {
  const { iterations, globalBatchSize, lrDecayIters: decayIterations = iterations, lrWarmupIters } = options
  const saveInterval = options.saveInterval ?? Math.max(10, Math.ceil(iterations / 10))
  return {
    samples: iterations * globalBatchSize,
    warmUpIterations: lrWarmupIters ?? (options.lrWarmupFraction ?? defaultWarmupFraction) * decayIterations,
    decayIterations,
    saveInterval,
    saves: Math.ceil(iterations / saveInterval),
    evalInterval: options.evalInterval ?? iterations,
  }
}

/** `--lr-warmup-fraction` of ModelLink's example scripts. */
export const defaultWarmupFraction = 0.01
