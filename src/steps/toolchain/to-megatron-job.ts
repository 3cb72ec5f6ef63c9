import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hfToMegatronCommand } from '../../ascendspeed/conversion-arguments.ts'
import { hfToMegatronOf } from '../../ascendspeed/step-inputs.ts'
import type { Toolchain } from '../../ascendspeed/toolchain.ts'
import { watchTool } from '../../ascendspeed/watch-training.ts'
import type { EndedJob, StepContext } from '../../flow/call.ts'
import type { WatchFacts } from '../../flow/job-watch.ts'
import type { Launch } from '../../flow/launch.ts'
import { readArchitecture } from '../../models/config.ts'
import type { MegatronCheckpoint } from '../artifacts.ts'
import type { HfToMegatronInput } from '../hf-to-megatron-input.ts'
import { proveCheckpoint } from './evidence.ts'
import { toolchainLaunch } from './toolchain-fields.ts'

type Input = HfToMegatronInput & { readonly toolchain: Toolchain }
type Place = Pick<StepContext, 'workDir'>

const saveFolder = ({ workDir }: Place) => join(workDir, 'checkpoint')

/** `hfToMegatron` as a job of the toolchain. */
export const toMegatronJob = {
  launch: async (input: Input, place: Place): Promise<Launch> => {
    const architecture = await readArchitecture(input.model.path)
    const conversion = hfToMegatronOf(input, { architecture, save: saveFolder(place) })
    return toolchainLaunch(hfToMegatronCommand(input.toolchain, conversion), input)
  },

  /** The converter writes into a folder that is there: ranks of an earlier attempt would stay. */
  prepare: (_: Input, place: Place): Promise<void> => rm(saveFolder(place), { recursive: true, force: true }),

  watch: (_: Input, facts: WatchFacts) => watchTool(facts),
  collect: async ({ model, parallel, layout }: Input, context: StepContext & EndedJob): Promise<MegatronCheckpoint> => {
    const architecture = await readArchitecture(model.path)
    const sizes = { path: saveFolder(context), iteration: 1, ...parallel, layout, architecture }
    await proveCheckpoint(context, sizes)
    return { kind: 'megatron-checkpoint', ...sizes }
  },
}
