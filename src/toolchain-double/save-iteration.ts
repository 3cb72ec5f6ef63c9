import { copyFile, mkdir, readdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { iterationFolder, trackerPath } from '../checkpoint/megatron-folder.ts'
import { trainerStateName } from '../checkpoint/trainer-state.ts'
import { errorMessages } from './error-messages.ts'
import { faultAt, raise, type Tool } from './tool.ts'
import { savingLines } from './training-lines.ts'

const shard = 'model_optim_rng.pt'

/**
 * Saves as Megatron does: a file for each rank, nothing atomic, the tracker after the words of success. Gives the exit
 * status of a save that fails. Source: Megatron-LM core_r0.6.0, checkpointing.py:268-335.
 */
export async function saveIteration(
  tool: Tool,
  { iteration, from, save }: { readonly iteration: number; readonly from: string; readonly save: string },
): Promise<number | undefined> {
  const [saving, saved] = savingLines(tool.generation, iteration, save)
  const [source, out] = [from, save].map(dir => join(dir, iterationFolder(iteration))) as [string, string]
  const fault = (kind: Parameters<typeof faultAt>[1]) => faultAt(tool, kind, iteration) !== undefined
  tool.print(saving)
  const ranks = (await readdir(source)).filter(name => name.startsWith('mp_rank_')).sort()
  const isLast = (rank: string) => rank === ranks.at(-1)
  for (const rank of fault('torn-tracker') ? [] : ranks) {
    if (isLast(rank)) {
      // What the embedded trainer goes on from, where the real one has its optimizer in the shards: never after the last.
      await mkdir(out, { recursive: true })
      await copyFile(join(source, trainerStateName), join(out, trainerStateName))
      if (fault('torn-rank')) continue
    }
    const file = join(out, rank, shard)
    await mkdir(join(out, rank), { recursive: true })
    await copyFile(join(source, rank, shard), file)
    if (fault('disk-full') || fault('hang-in-save') || (isLast(rank) && fault('torn-zip'))) await truncate(file, 1000)
    if (fault('hang-in-save')) await tool.hang()
    if (fault('disk-full')) return raise(tool, errorMessages['disk-full']())
  }
  tool.print(saved)
  await mkdir(save, { recursive: true })
  await writeFile(trackerPath(save), String(iteration))
  return undefined
}
