import { join } from 'node:path'
import { hfToMegatronCommand } from '../ascendspeed/conversion-arguments.ts'
import { hfToMegatronOf } from '../ascendspeed/step-inputs.ts'
import { openHfModel } from '../checkpoint/open-hf-model.ts'
import { checkPlaces } from '../checkpoint/stage-weights.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import type { StepContext } from '../flow/call.ts'
import { defineStep } from '../flow/step.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import { readArchitecture } from '../models/config.ts'
import { checkModel } from '../models/supported-model.ts'
import { MegatronCheckpoint } from './artifacts.ts'
import { HfToMegatronInput } from './hf-to-megatron-input.ts'
import { toMegatronJob } from './toolchain/to-megatron-job.ts'
import { toolchainFacts } from './toolchain/toolchain-fields.ts'
import { storedDtype } from './weight-dtype.ts'

/**
 * Cuts a Hugging Face model into Megatron shards, tensor for tensor as the toolchain's converter does.
 *
 * Runs in this process; memory does not grow with the model. After a kill it goes on after the stages that it finished.
 * With `toolchain` it is a job of that one's converter, whose files are checked before they count.
 * @throws LayoutError, before anything runs, when the model cannot be cut so; UnsupportedError for a model that is not
 * of a known family; FormatError naming the tensor that is missing, unknown or of another shape.
 */
export const hfToMegatron = defineStep({
  name: 'hfToMegatron',
  version: 1,
  input: HfToMegatronInput,
  output: MegatronCheckpoint,
  check: async ({ model, parallel, layout, dtype, ...asked }) => {
    const path = model?.path
    if (!path) return toolchainFacts(asked, () => undefined)
    const architecture = await readArchitecture(path)
    if (model.id) checkModel(model.id, architecture, join(path, 'config.json'))
    checkModelLayout(architecture, parallel ?? {})
    if (layout) checkPlaces(architecture, layout)
    const { family, numLayers, hiddenSize } = architecture
    const { tp = 1, pp = 1, ...stages } = parallel ?? {}
    const conversion = { model: { path }, parallel: { tp, pp, ...stages }, layout: layout ?? 'legacy', dtype }
    const facts = toolchainFacts(asked, toolchain =>
      hfToMegatronCommand(toolchain, hfToMegatronOf(conversion, { architecture, save: path })),
    )
    return [model.id ?? `${family}, ${numLayers} layers × ${hiddenSize}`, `tp ${tp} · pp ${pp}`, ...facts]
  },
  foretell: async ({ model, parallel, layout }) => ({
    ...{ tp: 1, pp: 1, ...parallel, layout },
    ...(model?.path ? { architecture: await readArchitecture(model.path) } : {}),
  }),
}).runOrJobWith('toolchain', convert, toMegatronJob)

async function convert(
  { model, parallel, layout, dtype }: HfToMegatronInput,
  { workDir, signal, progress }: StepContext,
): Promise<MegatronCheckpoint> {
  const path = join(workDir, 'checkpoint')
  const source = await openHfModel(model.path)
  const { architecture } = source
  const iteration = 1
  try {
    if (model.id) checkModel(model.id, architecture, join(model.path, 'config.json'))
    await writeMegatronCheckpoint(path, {
      ...{ source, architecture, parallel, layout, iteration, dtype: storedDtype(dtype), signal, onProgress: progress },
      resume: true,
    })
  } finally {
    await source.close()
  }
  return { kind: 'megatron-checkpoint', path, iteration, ...parallel, layout, architecture }
}
