import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { InputError, UnsupportedError } from '../errors.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import { dictEntries, type PickleNamespace } from '../formats/pickle-value.ts'
import type { Architecture } from '../models/architecture.ts'
import type { CopyOptions } from './block-copy.ts'
import { carriedArgs } from './megatron-args.ts'
import { type CheckpointIteration, iterationFolder } from './megatron-folder.ts'
import { openMegatronShards } from './open-megatron.ts'
import { openOptimizer } from './open-optimizer.ts'
import { shardSource } from './shard-source.ts'
import type { MegatronLayout, ParallelSizes } from './stage-weights.ts'
import { trainerStateName } from './trainer-state.ts'
import { writeMegatronCheckpoint } from './write-megatron.ts'

export interface ReshardOptions extends CopyOptions {
  /** Folder to write. */
  readonly to: string
  readonly parallel: ParallelSizes
  /** Default: as it is. */
  readonly layout?: MegatronLayout | undefined
  /** Type to store; default as it is, tensor by tensor. */
  readonly dtype?: FloatDtype | undefined
  /** Default: what the tracker file names. */
  readonly iteration?: CheckpointIteration | undefined
  /** The model it holds, which says how many rows of the vocabulary are true; default what `args` in the file say. */
  readonly architecture?: Architecture | undefined
  /** `carry` takes the optimizer's state along where there is one; `drop` leaves it behind. Default `carry`. */
  readonly optimizer?: 'carry' | 'drop' | undefined
}

/** What became of the optimizer's state, Megatron's or the embedded trainer's: `none` when there was none. */
export type CarriedOptimizer = 'carried' | 'dropped' | 'none'

/**
 * Writes the checkpoint in `dir` with other parallel sizes, or the other layout, from shards to shards: weights, what
 * of `args` does not follow from the layout, iteration, and the state of a classic optimizer or of the embedded trainer. Adapters of a LoRA
 * checkpoint stay adapters. Padding of the vocabulary is made anew. States of random number generators are left behind,
 * since each rank of another layout needs its own (`--no-load-rng`). Memory: about 6 MiB, and 20 MiB for each thread.
 *
 * @throws as `openMegatronCheckpoint`, `openOptimizer` and `writeMegatronCheckpoint` do.
 */
export async function reshardCheckpoint(dir: string, options: ReshardOptions): Promise<CarriedOptimizer> {
  const shards = await openMegatronShards(dir, options)
  try {
    const { architecture, lora, consumedTrainSamples } = shards
    if (lora !== undefined && shards.isComplete)
      throw new UnsupportedError(`${dir} holds adapters beside the weights that they were trained on.`, {
        hint: 'Merge them first.',
      })
    const { iteration } = shards
    if (iteration === 'release') throw new UnsupportedError(`${dir} holds a release, which has no iteration to write.`)
    const first = shards.files[0]![0]!
    const top = dictEntries(first.value)!
    const hasOptimizer = shards.files.flat().some(file => dictEntries(file.value)?.has('optimizer'))
    const optimizer = options.optimizer === 'drop' ? undefined : await openOptimizer(shards)
    if (optimizer !== undefined && options.dtype !== undefined)
      throw new InputError(`${dir} has the state of an optimizer, which goes with weights of the stored type.`, {
        hint: "Leave dtype out, or give optimizer: 'drop'.",
      })
    const own = join(dir, iterationFolder(iteration), trainerStateName)
    const trainerState = existsSync(own) ? own : undefined
    const weights = shards.weights.filter(({ weight }) => !weight.isCopy)
    const { fields } = top.get('args') as PickleNamespace
    await writeMegatronCheckpoint(options.to, {
      ...options,
      ...{
        source: shardSource(weights, async () => {}),
        architecture,
        lora,
        iteration,
        optimizer,
        trainerState: options.optimizer === 'drop' ? undefined : trainerState,
        consumedTrainSamples,
      },
      layout: options.layout ?? shards.layout,
      extraArgs: carriedArgs(fields),
      floatingPointOperations: top.get('num_floating_point_operations_so_far'),
    })
    if (!hasOptimizer && trainerState === undefined) return 'none'
    return options.optimizer === 'drop' ? 'dropped' : 'carried'
  } finally {
    await shards.close()
  }
}
