import { join } from 'node:path'
import { openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { writeHfModel } from '../checkpoint/write-hf-model.ts'
import type { StepContext } from '../flow/call.ts'
import { defineStep } from '../flow/step.ts'
import { readArchitecture } from '../models/config.ts'
import { HfModel } from './artifacts.ts'
import { MegatronToHfInput } from './megatron-to-hf-input.ts'
import { checkToHf, toHfJob } from './toolchain/to-hf-job.ts'
import { storedDtype } from './weight-dtype.ts'

/**
 * Puts Megatron shards together into a Hugging Face folder that can be loaded at once; LoRA adapters are merged.
 *
 * Runs in this process; memory does not grow with the model; after a kill it keeps the shards that it finished.
 * Configuration and tokenizer come from `like`. With `toolchain` it is a job of that one's converter, on a copy of `like`.
 * @throws FormatError naming the rank or tensor that is missing or of another shape, or the number in which `like` is
 * another model; UnsupportedError when `like` is of no known family.
 */
export const megatronToHf = defineStep({
  name: 'megatronToHf',
  version: 1,
  input: MegatronToHfInput,
  output: HfModel,
  check: async known => {
    const facts = await checkToHf(known)
    return known.like?.path ? [(await readArchitecture(known.like.path)).family, ...facts] : facts
  },
}).runOrJobWith('toolchain', convert, toHfJob)

async function convert(
  { checkpoint, like, dtype }: MegatronToHfInput,
  { workDir, signal, progress }: StepContext,
): Promise<HfModel> {
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
}
