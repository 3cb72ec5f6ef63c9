import { join } from 'node:path'
import { z } from 'zod'
import { openHfModel } from '../checkpoint/open-hf-model.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import { defineStep } from '../flow/step.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import { readArchitecture } from '../models/config.ts'
import { HfModel, MegatronCheckpoint } from './artifacts.ts'
import { storedDtype, WeightDtype } from './weight-dtype.ts'

const size = z.number().int().positive()

/**
 * Cuts a Hugging Face model into Megatron shards, tensor for tensor as the toolchain's converter does.
 *
 * Runs in this process; memory does not grow with the model.
 * @throws LayoutError, before anything runs, when the model cannot be cut so; UnsupportedError for a model that is not
 * of a known family; FormatError naming the tensor that is missing, unknown or of another shape.
 */
export const hfToMegatron = defineStep({
  name: 'hfToMegatron',
  version: 1,
  input: z.object({
    model: HfModel,
    /** Tensor and pipeline parallel size; default 1 each. */
    parallel: z.strictObject({ tp: size.default(1), pp: size.default(1) }).default({ tp: 1, pp: 1 }),
    /** State dict of `--use-mcore-models` or of the toolchain without it; default `legacy`, as the vendor's scripts. */
    layout: z.enum(['legacy', 'mcore']).default('legacy'),
    /** Stored type; default: as in the model. */
    dtype: WeightDtype.optional(),
  }),
  output: MegatronCheckpoint,
  check: async ({ model, parallel }) => {
    if (!model?.path) return []
    const architecture = await readArchitecture(model.path)
    checkModelLayout(architecture, parallel ?? {})
    const { family, numLayers, hiddenSize } = architecture
    return [`${family}, ${numLayers} layers × ${hiddenSize}`, `tp ${parallel?.tp ?? 1} · pp ${parallel?.pp ?? 1}`]
  },
  foretell: async ({ model, parallel, layout }) => ({
    ...{ tp: parallel?.tp ?? 1, pp: parallel?.pp ?? 1, layout },
    ...(model?.path ? { architecture: await readArchitecture(model.path) } : {}),
  }),
}).run(async ({ model, parallel, layout, dtype }, { workDir, signal, progress }) => {
  const path = join(workDir, 'checkpoint')
  const source = await openHfModel(model.path)
  const { architecture } = source
  const iteration = 1
  try {
    await writeMegatronCheckpoint(path, {
      ...{ source, architecture, parallel, layout, iteration, dtype: storedDtype(dtype), signal, onProgress: progress },
    })
  } finally {
    await source.close()
  }
  return { kind: 'megatron-checkpoint', path, iteration, ...parallel, layout, architecture }
})
