import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { openMegatronShards } from '../checkpoint/open-megatron.ts'
import { shardSource } from '../checkpoint/shard-source.ts'
import { writePeftAdapter } from '../checkpoint/write-peft.ts'
import { InputError } from '../errors.ts'
import { defineStep } from '../flow/step.ts'
import { readArchitecture } from '../models/config.ts'
import { HfModel, MegatronCheckpoint, PeftAdapter } from './artifacts.ts'

/**
 * Gives the adapters of a Megatron LoRA checkpoint as a PEFT folder that goes with the Hugging Face model `like`; each
 * product is exactly that of the checkpoint.
 *
 * @throws InputError when the checkpoint holds no adapters; UnsupportedError when embedding or output layer differ from
 * the base's: they were trained too, which adapters cannot say.
 */
export const megatronToPeft = defineStep({
  name: 'megatronToPeft',
  version: 1,
  input: z.object({
    checkpoint: MegatronCheckpoint,
    /** The model that the base was made from; its path is written down in the adapters' configuration. */
    like: HfModel,
  }),
  output: PeftAdapter,
  check: async ({ like }) => (like?.path ? [(await readArchitecture(like.path)).family] : []),
}).run(async ({ checkpoint, like }, { workDir, signal }) => {
  const path = join(workDir, 'peft')
  const { iteration, loraBase: base } = checkpoint
  const architecture = await readArchitecture(like.path)
  const shards = await openMegatronShards(checkpoint.path, { iteration, architecture })
  try {
    const { lora } = shards
    if (lora === undefined) throw new InputError(`${checkpoint.path} holds no adapters.`)
    const source = shardSource(
      shards.weights.filter(({ weight }) => !weight.isCopy),
      async () => {},
    )
    await rm(path, { recursive: true, force: true })
    await writePeftAdapter(path, { source, architecture, lora, model: like.path, base, signal })
  } finally {
    await shards.close()
  }
  return { kind: 'peft-adapter', path }
})
