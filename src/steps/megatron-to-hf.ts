import { join } from 'node:path'
import { z } from 'zod'
import { openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { writeHfModel } from '../checkpoint/write-hf-model.ts'
import { defineStep } from '../flow/step.ts'
import { readArchitecture } from '../models/config.ts'
import { HfModel, MegatronCheckpoint } from './artifacts.ts'
import { storedDtype, WeightDtype } from './weight-dtype.ts'

/**
 * Puts Megatron shards together into a Hugging Face folder that can be loaded at once; LoRA adapters are merged.
 *
 * Runs in this process; memory does not grow with the model; after a kill it keeps the shards that it finished. Configuration and tokenizer come from `like`.
 * @throws FormatError naming the rank or tensor that is missing or of another shape, or the number in which `like` is
 * another model; UnsupportedError when `like` is of no known family.
 */
export const megatronToHf = defineStep({
  name: 'megatronToHf',
  version: 1,
  input: z.object({
    checkpoint: MegatronCheckpoint,
    /** The model that the checkpoint was made from. */
    like: HfModel,
    /** Stored type; default: as in the checkpoint. */
    dtype: WeightDtype.optional(),
  }),
  output: HfModel,
  check: async ({ like }) => (like?.path ? [(await readArchitecture(like.path)).family] : []),
}).run(async ({ checkpoint, like, dtype }, { workDir, signal, progress }) => {
  const path = join(workDir, 'hf')
  const { iteration, loraBase } = checkpoint
  const architecture = await readArchitecture(like.path)
  const source = await openMegatronCheckpoint(checkpoint.path, {
    ...{ iteration, architecture, base: loraBase?.path, baseIteration: loraBase?.iteration },
  })
  try {
    await writeHfModel(path, {
      ...{ source, architecture, like: like.path },
      ...{ dtype: storedDtype(dtype), signal, onProgress: progress, resume: true },
    })
  } finally {
    await source.close()
  }
  return { kind: 'hf-model', path }
})
