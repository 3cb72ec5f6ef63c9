import { join } from 'node:path'
import { z } from 'zod'
import { type CarriedOptimizer, reshardCheckpoint } from '../checkpoint/reshard.ts'
import { defineArtifact } from '../flow/artifact.ts'
import { defineStep } from '../flow/step.ts'
import { checkpointFacts, MegatronCheckpoint } from './artifacts.ts'
import { checkCut, ParallelSizes } from './parallel-sizes.ts'
import { storedDtype, WeightDtype } from './weight-dtype.ts'

/** What `reshard` gives: a checkpoint, with what became of its optimizer. */
export interface ReshardedCheckpoint extends MegatronCheckpoint {
  readonly optimizer: CarriedOptimizer
}

export const ReshardedCheckpoint: z.ZodType<ReshardedCheckpoint, ReshardedCheckpoint> =
  defineArtifact<ReshardedCheckpoint>('megatron-checkpoint', {
    ...checkpointFacts,
    optimizer: z.enum(['carried', 'dropped', 'none']),
  })

/**
 * Cuts a Megatron checkpoint anew, from any parallel sizes and layout to any other, with the state of a classic
 * optimizer (`--use-distributed-optimizer` off) where there is one. Iteration, consumed samples and `args` stay; states
 * of random number generators do not, so training goes on with `--no-load-rng`.
 *
 * Runs in this process; memory does not grow with the model. After a kill it goes on after the stages that it finished.
 * @throws LayoutError, before anything runs, when the model cannot be cut so; UnsupportedError for the state of a
 * distributed optimizer, or one of a form that is not known; FormatError naming the tensor that is missing, unknown or
 * of another shape.
 */
export const reshard = defineStep({
  name: 'reshard',
  version: 1,
  input: z.object({
    checkpoint: MegatronCheckpoint,
    parallel: ParallelSizes,
    /** State dict of `--use-mcore-models` or of the toolchain without it; default: as it is. */
    layout: z.enum(['legacy', 'mcore']).optional(),
    /** Stored type; default: as in the checkpoint. Needs a checkpoint without optimizer, or `optimizer: 'drop'`. */
    dtype: WeightDtype.optional(),
    /** Whether the optimizer's state comes along where there is one; default `carry`. */
    optimizer: z.enum(['carry', 'drop']).default('carry'),
  }),
  output: ReshardedCheckpoint,
  check: ({ checkpoint, parallel, layout = checkpoint?.layout }) => {
    const { architecture, tp, pp } = checkpoint ?? {}
    checkCut(architecture, parallel ?? {}, layout)
    const to = `tp ${parallel?.tp ?? 1} · pp ${parallel?.pp ?? 1}`
    return [tp && pp ? `tp ${tp} · pp ${pp} → ${to}` : to]
  },
  foretell: ({ checkpoint, parallel, layout = checkpoint?.layout }) => ({
    ...{ iteration: checkpoint?.iteration, tp: 1, pp: 1, ...parallel, layout },
    ...{ architecture: checkpoint?.architecture, loraBase: checkpoint?.loraBase },
  }),
  summarize: ({ iteration, optimizer }) => [
    `iteration ${iteration}`,
    ...(optimizer === 'none' ? [] : [`optimizer ${optimizer}`]),
  ],
}).run(async ({ checkpoint, parallel, dtype, optimizer, ...asked }, { workDir, signal, progress }) => {
  const path = join(workDir, 'checkpoint')
  const { iteration, architecture, loraBase, layout = checkpoint.layout } = { ...checkpoint, ...asked }
  const became = await reshardCheckpoint(checkpoint.path, {
    ...{ to: path, parallel, layout, dtype: storedDtype(dtype), optimizer, iteration, architecture },
    ...{ signal, onProgress: progress, resume: true },
  })
  const facts = { path, iteration, ...parallel, layout, architecture, optimizer: became }
  return { kind: 'megatron-checkpoint', ...facts, ...(loraBase ? { loraBase } : {}) }
})
