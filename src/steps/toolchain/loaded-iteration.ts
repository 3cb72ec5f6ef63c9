import { readTracker } from '../../checkpoint/megatron-folder.ts'
import { openMegatronShards } from '../../checkpoint/open-megatron.ts'
import { InputError } from '../../errors.ts'
import { dictEntries } from '../../formats/pickle-value.ts'
import type { MegatronCheckpoint } from '../artifacts.ts'

/**
 * The toolchain loads the iteration that a folder's tracker names, whatever is asked for.
 * @throws InputError when that is another than the checkpoint's.
 */
export async function refuseOtherIteration({ path, iteration }: Pick<MegatronCheckpoint, 'path' | 'iteration'>) {
  const tracked = await readTracker(path)
  if (tracked === iteration) return
  throw new InputError(`${path}: the toolchain would load iteration ${tracked}, not ${iteration}.`, {
    hint: `repair(path, { iteration: ${iteration} }) sets its tracker.`,
  })
}

/** True where the ranks of a checkpoint have states of random number generators; those that were resharded have none. */
export async function hasRandomStates({ path, iteration, architecture }: MegatronCheckpoint): Promise<boolean> {
  const shards = await openMegatronShards(path, { iteration, architecture })
  await shards.close()
  return shards.files.flat().every(file => dictEntries(file.value)?.has('rng_state'))
}
