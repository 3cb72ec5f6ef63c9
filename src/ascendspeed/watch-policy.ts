import { z } from 'zod'

const reaction = z.enum(['ignore', 'warn', 'retry', 'fail'])

/**
 * What to do about what a training's output shows: `warn` tells it as an event, `retry` also stops the job and goes on
 * from its newest checkpoint, `fail` stops it for good. None of it counts in the key.
 */
export const WatchPolicy = z.strictObject({
  /** No progress for `hangIterations` iterations. */
  hang: reaction.default('retry'),
  /** The loss or the norm of its gradient is NaN or infinite. */
  nan: reaction.default('fail'),
  /** The loss is above `spikeFactor` times the median of the last 20. */
  lossSpike: reaction.default('warn'),
  /** `skippedInARow` updates one after the other were skipped. */
  skipped: reaction.default('warn'),
  /** Times the learned time of an iteration. */
  hangIterations: z.number().positive().default(5),
  /** A shorter silence than this is no hang, however fast iterations are. */
  hangSeconds: z.number().positive().default(300),
  /** Silence that is allowed until the second iteration is logged: loading, compiling, connecting. */
  startSeconds: z.number().positive().default(1_200),
  /** Time that saving, measuring and ending are allowed. */
  pauseSeconds: z.number().positive().default(1_200),
  spikeFactor: z.number().gt(1).default(2),
  skippedInARow: z.number().int().positive().default(5),
})

export type WatchPolicy = z.output<typeof WatchPolicy>
/** One policy's answer. */
export type Reaction = z.output<typeof reaction>
