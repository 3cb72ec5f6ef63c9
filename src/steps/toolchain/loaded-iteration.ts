import { readTracker } from '../../checkpoint/megatron-folder.ts'
import { InputError } from '../../errors.ts'
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
