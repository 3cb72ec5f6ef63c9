import { join } from 'node:path'
import { z } from 'zod'
import { openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { openPeftAdapter } from '../checkpoint/open-peft.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import { defineStep } from '../flow/step.ts'
import { readerByName } from '../formats/row-reader.ts'
import type { TensorSource } from '../formats/tensor.ts'
import { MegatronCheckpoint, PeftAdapter } from './artifacts.ts'
import { checkCut, ParallelSizes, sizesOf } from './parallel-sizes.ts'

/**
 * Makes a Megatron LoRA checkpoint of PEFT adapters, for further training, `mergeLora` or `megatronToHf`. Megatron's
 * query, key and value are one layer, and so are gate and up: adapters that PEFT trained apart become one of up to three
 * times the rank that computes the same. Embedding and output layer, which such a checkpoint holds too, are the base's.
 *
 * @throws UnsupportedError for other than plain LoRA (DoRA, rsLoRA, ranks by pattern, trained biases, …); FormatError
 * naming the tensor that no layer of Megatron takes, or that is missing or of another shape.
 */
export const peftToMegatron = defineStep({
  name: 'peftToMegatron',
  version: 1,
  input: z.object({
    adapter: PeftAdapter,
    /** The weights that the adapters are for. */
    base: MegatronCheckpoint,
    /** How to cut the adapters; default as the base is. */
    parallel: ParallelSizes.unwrap().optional(),
  }),
  output: MegatronCheckpoint,
  check: ({ base, parallel }) => {
    const sizes = parallel ?? base ?? {}
    checkCut(base?.architecture, sizes, base?.layout)
    return [`tp ${sizes.tp ?? 1} · pp ${sizes.pp ?? 1}`]
  },
  foretell: ({ base, parallel }) => {
    const { tp, pp } = parallel ?? base ?? {}
    return { iteration: 1, tp, pp, layout: base?.layout, architecture: base?.architecture, loraBase: base }
  },
}).run(async ({ adapter, base, parallel }, { workDir, signal, progress }) => {
  const path = join(workDir, 'checkpoint')
  const { architecture, layout } = base
  const sizes = sizesOf(parallel ?? base)
  const iteration = 1
  const adapters = await openPeftAdapter(adapter.path, architecture)
  const weights = await openMegatronCheckpoint(base.path, { iteration: base.iteration, architecture }).catch(
    async error => {
      await adapters.close()
      throw error
    },
  )
  const source: TensorSource = {
    tensors: new Map([...weights.tensors, ...adapters.tensors]),
    readRows: readerByName(name => (adapters.tensors.has(name) ? adapters : weights).readRows),
    close: async () => {
      await adapters.close()
      await weights.close()
    },
  }
  try {
    await writeMegatronCheckpoint(path, {
      ...{ source, architecture, parallel: sizes, layout, iteration, signal, onProgress: progress, resume: true },
      lora: { ...adapters.lora, base: base.path },
    })
  } finally {
    await source.close()
  }
  return { kind: 'megatron-checkpoint', path, iteration, ...sizes, layout, architecture, loraBase: base }
})
