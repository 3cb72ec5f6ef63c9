import { constants } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Flushing, flush } from '../formats/atomic-file.ts'

/** Name of the embedded trainer's own state, beside the shards of an iteration; it is the same for every layout. */
export const trainerStateName = 'embedded_trainer_state.safetensors'

/** Copies a state into the folder of another iteration. */
export async function copyTrainerState(file: string, to: string, { flush: isFlushed = true }: Flushing): Promise<void> {
  const own = join(to, trainerStateName)
  await copyFile(file, own, constants.COPYFILE_FICLONE)
  if (isFlushed) await flush(own)
}
