import { z } from 'zod'
import { HfModel, MegatronCheckpoint } from './artifacts.ts'
import { toolchainFields } from './toolchain/toolchain-fields.ts'
import { WeightDtype } from './weight-dtype.ts'

export const MegatronToHfInput = z.object({
  checkpoint: MegatronCheckpoint,
  /** The model that the checkpoint was made from. */
  like: HfModel,
  /** Stored type; default: as in the checkpoint. A toolchain stores the type that `like` names, and takes no other. */
  dtype: WeightDtype.optional(),
  ...toolchainFields,
})

export type MegatronToHfInput = z.output<typeof MegatronToHfInput>
