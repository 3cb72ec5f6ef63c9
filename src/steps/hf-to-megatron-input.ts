import { z } from 'zod'
import { HfModel } from './artifacts.ts'
import { ParallelSizes } from './parallel-sizes.ts'
import { toolchainFields } from './toolchain/toolchain-fields.ts'
import { WeightDtype } from './weight-dtype.ts'

export const HfToMegatronInput = z.object({
  model: HfModel,
  /** How to cut it; default one piece. */
  parallel: ParallelSizes,
  /** State dict of `--use-mcore-models` or of the toolchain without it; default `legacy`, as the vendor's scripts. */
  layout: z.enum(['legacy', 'mcore']).default('legacy'),
  /** Stored type; default: as in the model, and bf16 with a toolchain (fp16 where its converter knows no other). */
  dtype: WeightDtype.optional(),
  ...toolchainFields,
})

export type HfToMegatronInput = z.output<typeof HfToMegatronInput>
