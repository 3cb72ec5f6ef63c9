import { UnsupportedError } from '../../errors.ts'
import type { Known } from '../../flow/call.ts'
import type { HfModel } from '../artifacts.ts'
import type { TrainInput } from '../train-input.ts'
import { toolchainFacts } from './toolchain-fields.ts'
import { type ToolchainTrainInput, toolchainTrainCommand } from './train-job.ts'

const unknownFolder: HfModel = { kind: 'hf-model', path: '/' }

/**
 * Whether the toolchain can do a training, as far as it is known.
 * @throws UnsupportedError, LayoutError, InputError naming what it cannot.
 */
export function checkToolchainTraining(known: Known<TrainInput>): readonly string[] {
  const { data, init, seqLength, globalBatchSize, tokenizer, lr } = known
  return toolchainFacts(known, toolchain => {
    if (known.numerics === 'fast')
      throw new UnsupportedError("numerics: 'fast' is the embedded trainer's; the toolchain has no such choice.")
    if (known.finetune === false && known.toolchain?.scripts)
      throw new UnsupportedError('whether the packaged scripts go on from a checkpoint is not known.', {
        hint: "Leave 'scripts' out: the toolchain's own program does.",
      })
    const { tp, pp, layout, architecture } = init ?? {}
    if (!tp || !pp || !layout || !architecture || !seqLength || !globalBatchSize || lr === undefined) return undefined
    const validation = known.validation && { samples: 0, tokens: 0, ...known.validation }
    // Steps foretell an architecture whole; the rest has its defaults, and paths do not matter here.
    const input = { ...known, toolchain, data: { path: '/', instruction: false, ...data }, validation }
    const folders = {
      tokenizer: Object.hasOwn(known, 'tokenizer') ? tokenizer : unknownFolder,
      init: { path: '/', iteration: 1, ...init },
    }
    return toolchainTrainCommand({ ...input, ...folders } as unknown as ToolchainTrainInput, {
      workDir: '/',
      resume: false,
    })
  })
}
