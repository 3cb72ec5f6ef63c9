import { join } from 'node:path'
import { z } from 'zod'
import { openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import { InputError } from '../errors.ts'
import { defineStep } from '../flow/step.ts'
import { MegatronCheckpoint } from './artifacts.ts'
import { checkCut, ParallelSizes, sizesOf } from './parallel-sizes.ts'

/**
 * Adds LoRA adapters to the weights that they were trained on, and gives a whole checkpoint at iteration 1, as after a
 * conversion. Each element is summed in float64 and rounded once to the type of the base; the two may be cut
 * differently.
 *
 * Runs in this process; memory does not grow with the model. After a kill it goes on after the stages that it finished.
 * @throws LayoutError, before anything runs, when the model cannot be cut so; InputError when `adapter` has no adapters;
 * FormatError naming the tensor that is missing, unknown or of another shape.
 */
export const mergeLora = defineStep({
  name: 'mergeLora',
  version: 1,
  input: z.object({
    /** Weights that the adapters were trained on; default what the adapters name, themselves when they hold them. */
    base: MegatronCheckpoint.optional(),
    adapter: MegatronCheckpoint,
    /** How to cut the result; default as the adapters are. */
    parallel: ParallelSizes.unwrap().optional(),
    /** Default: as the adapters are. */
    layout: z.enum(['legacy', 'mcore']).optional(),
  }),
  output: MegatronCheckpoint,
  check: ({ adapter, parallel, layout = adapter?.layout }) => {
    const sizes = parallel ?? adapter ?? {}
    checkCut(adapter?.architecture, sizes, layout)
    return [`tp ${sizes.tp ?? 1} · pp ${sizes.pp ?? 1}`]
  },
  foretell: ({ adapter, parallel, layout = adapter?.layout }) => {
    const { tp, pp } = parallel ?? adapter ?? {}
    return { iteration: 1, tp, pp, layout, architecture: adapter?.architecture }
  },
}).run(async ({ base, adapter, parallel, layout = adapter.layout }, { workDir, signal, progress }) => {
  const path = join(workDir, 'checkpoint')
  const { architecture } = adapter
  const weights = base ?? adapter.loraBase
  const sizes = sizesOf(parallel ?? adapter)
  const iteration = 1
  const source = await openMegatronCheckpoint(adapter.path, {
    ...{ iteration: adapter.iteration, architecture, base: weights?.path, baseIteration: weights?.iteration },
  })
  try {
    if (source.lora === undefined) throw new InputError(`${adapter.path} holds no adapters to merge.`)
    await writeMegatronCheckpoint(path, {
      ...{ source, architecture, parallel: sizes, layout, iteration, signal, onProgress: progress, resume: true },
    })
  } finally {
    await source.close()
  }
  return { kind: 'megatron-checkpoint', path, iteration, ...sizes, layout, architecture }
})
