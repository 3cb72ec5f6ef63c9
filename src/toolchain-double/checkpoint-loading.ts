import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type CheckpointIteration,
  iterationFolder,
  readTracker,
  shardPath,
  trackerPath,
} from '../checkpoint/megatron-folder.ts'
import { type MegatronShards, openMegatronShards } from '../checkpoint/open-megatron.ts'
import { trainerStateName } from '../checkpoint/trainer-state.ts'
import type { ParsedFlags } from './argparse.ts'
import { truncatedZip } from './error-messages.ts'
import { faultAt, raise, type Tool } from './tool.ts'

/** Where training starts from, or the exit status of one that cannot. */
export type Loaded =
  | { readonly status: number }
  | {
      readonly status?: undefined
      readonly iteration: CheckpointIteration
      /** The folder of an iteration that the trainer itself can continue, optimizer and all. */
      readonly state?: string | undefined
    }

/**
 * Looks at `--load` as Megatron does, which ends with status 0 for most of what can be wrong.
 * Source: Megatron-LM core_r0.6.0, checkpointing.py:36-73, 205-207, 452-530, 626-770.
 */
export async function checkLoad(tool: Tool, flags: ParsedFlags): Promise<Loaded> {
  const one = (name: string) => flags.get(name)?.[0]
  const load = one('load')
  const tracker = load === undefined ? '' : trackerPath(load)
  const gone = faultAt(tool, 'unreadable-checkpoint') !== undefined
  const fail = (...lines: readonly string[]): Loaded => {
    for (const line of lines) tool.print(line)
    return { status: 0 }
  }
  if (load === undefined || !existsSync(tracker)) {
    tool.print(`WARNING: could not find the metadata file ${tracker} `)
    tool.print('    will not load any checkpoints and will start from random')
    if (flags.has('exit-on-missing-checkpoint')) return fail(">> '--exit-on-missing-checkpoint' set ... exiting. <<")
    return { status: raise(tool, 'NotImplementedError: the toolchain double trains no random weights') }
  }
  const word = (await readFile(tracker, 'latin1')).trim()
  if (faultAt(tool, 'invalid-tracker') || !/^(\d+|release)$/.test(word))
    return fail(`ERROR: Invalid metadata file ${tracker}. Exiting`)
  const iteration: CheckpointIteration = word === 'release' ? 'release' : Number(one('ckpt-step') ?? word)
  tool.print(` loading ${iteration === 'release' ? 'release ' : ''}checkpoint from ${load} at iteration ${iteration}`)
  const [tp, pp] = ['tensor', 'pipeline'].map(name => Number(one(`${name}-model-parallel-size`) ?? 1)) as [
    number,
    number,
  ]
  const first = join(load, iterationFolder(iteration), shardPath({ tp: 0, stage: 0 }, pp))
  if (!existsSync(first))
    return fail('could not load the checkpoint', `[Errno 2] No such file or directory: '${first}'`)
  const shards = gone ? undefined : await openMegatronShards(load, { iteration }).catch(() => undefined)
  if (!shards) return fail('could not load the checkpoint', truncatedZip)
  await shards.close()
  const wrong = disagreement(shards, { tp, pp, flags })
  if (wrong !== undefined) return { status: raise(tool, wrong) }
  tool.print(' checkpoint version 3.0')
  if (flags.has('finetune') || flags.has('no-load-optim')) return { iteration }
  // Adapters have their own optimizer: ModelLink 1.1, modellink/checkpointing.py:23-57.
  const adapters = one('lora-load')
  const own = adapters === undefined ? iteration : await readTracker(adapters)
  const state = join(adapters ?? load, iterationFolder(own))
  if (existsSync(join(state, trainerStateName)) && !faultAt(tool, 'no-optimizer-state'))
    return { iteration: own, state }
  return fail(
    `Unable to load optimizer from checkpoint ${first}. Specify --no-load-optim or --finetune to prevent attempting to load the optimizer state, exiting ...`,
  )
}

function disagreement(
  shards: Pick<MegatronShards, 'tp' | 'pp' | 'layout'>,
  { tp, pp, flags }: { readonly tp: number; readonly pp: number; readonly flags: ParsedFlags },
): string | undefined {
  const layout = flags.has('use-mcore-models') ? 'mcore' : 'legacy'
  if (shards.layout !== layout)
    return `RuntimeError: Error(s) in loading state_dict for GPTModel:\n\tMissing key(s) in state_dict: the checkpoint is ${shards.layout}`
  const sizes = { tensor_model_parallel_size: [shards.tp, tp], pipeline_model_parallel_size: [shards.pp, pp] }
  const other = Object.entries(sizes).find(([, [there, here]]) => there !== here)
  if (!other) return undefined
  const [name, [there, here]] = other
  return flags.has('finetune')
    ? `RuntimeError: Error(s) in loading state_dict for GPTModel:\n\tsize mismatch for word_embeddings.weight: ${name} ${there}, not ${here}`
    : `AssertionError: ${name} value from checkpoint (${there}) is not equal to the input argument value (${here}).`
}
