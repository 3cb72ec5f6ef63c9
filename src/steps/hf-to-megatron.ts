import { join } from 'node:path'
import { z } from 'zod'
import { openHfModel } from '../checkpoint/open-hf-model.ts'
import { checkPlaces } from '../checkpoint/stage-weights.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import { defineStep } from '../flow/step.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import { readArchitecture } from '../models/config.ts'
import { checkModel } from '../models/supported-model.ts'
import { HfModel, MegatronCheckpoint } from './artifacts.ts'
import { ParallelSizes } from './parallel-sizes.ts'
import { storedDtype, WeightDtype } from './weight-dtype.ts'

/**
 * Cuts a Hugging Face model into Megatron shards, tensor for tensor as the toolchain's converter does.
 *
 * Runs in this process; memory does not grow with the model. After a kill it goes on after the stages that it finished.
 * @throws LayoutError, before anything runs, when the model cannot be cut so; UnsupportedError for a model that is not
 * of a known family; FormatError naming the tensor that is missing, unknown or of another shape.
 */
export const hfToMegatron = defineStep({
  name: 'hfToMegatron',
  version: 1,
  input: z.object({
    model: HfModel,
    /** How to cut it; default one piece. */
    parallel: ParallelSizes,
    /** State dict of `--use-mcore-models` or of the toolchain without it; default `legacy`, as the vendor's scripts. */
    layout: z.enum(['legacy', 'mcore']).default('legacy'),
    /** Stored type; default: as in the model. */
    dtype: WeightDtype.optional(),
  }),
  output: MegatronCheckpoint,
  check: async ({ model, parallel, layout }) => {
    if (!model?.path) return []
    const architecture = await readArchitecture(model.path)
    if (model.id) checkModel(model.id, architecture, join(model.path, 'config.json'))
    checkModelLayout(architecture, parallel ?? {})
    if (layout) checkPlaces(architecture, layout)
    const { family, numLayers, hiddenSize } = architecture
    return [
      model.id ?? `${family}, ${numLayers} layers × ${hiddenSize}`,
      `tp ${parallel?.tp ?? 1} · pp ${parallel?.pp ?? 1}`,
    ]
  },
  foretell: async ({ model, parallel, layout }) => ({
    ...{ tp: 1, pp: 1, ...parallel, layout },
    ...(model?.path ? { architecture: await readArchitecture(model.path) } : {}),
  }),
}).run(async ({ model, parallel, layout, dtype }, { workDir, signal, progress }) => {
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
})
