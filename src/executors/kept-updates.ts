import { createReadStream, existsSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobUpdate } from '../flow/executor.ts'
import { siblingTemp } from '../formats/atomic-file.ts'
import { createLineCutter } from './log-lines.ts'

export interface EndingJob {
  /** The job's folder on this machine. */
  readonly dir: string
  /** What there is to tell, from the first line on to a last state. */
  updates(): AsyncIterable<JobUpdate>
  /** Takes away what is left of an ended job where it ran; may be called again. */
  release(): Promise<void>
}

/** True once a job's whole story lies in its folder, so that nothing is left of it elsewhere. */
export function isKept(dir: string): boolean {
  return existsSync(keptPath(dir))
}

/**
 * Tells a job's updates and writes them down beside (`updates.jsonl`, one a line). Only when the last is safely there
 * is the job released, and from then on it is told from its file: so it can be watched again for ever, although
 * containers and remote folders go.
 */
export async function* keptUpdates({ dir, updates, release }: EndingJob): AsyncGenerator<JobUpdate> {
  const path = keptPath(dir)
  const told = new Map<number, number>()
  if (isKept(dir)) return yield* untold(path, told)
  const temporary = siblingTemp(path)
  const file = await open(temporary, 'wx')
  let waiting = ''
  try {
    for await (const update of updates()) {
      // Another who watched or cancelled it has kept and released it under our eyes.
      if (isLast(update) && isKept(dir)) return yield* untold(path, told)
      waiting += `${JSON.stringify(update)}\n`
      if (isLast(update) || waiting.length > 65_536) {
        await file.write(waiting)
        waiting = ''
      }
      if (isLast(update)) {
        await file.sync()
        await rename(temporary, path)
        // The end is known: that something could not be cleared away must not make a failure of it.
        await release().catch(() => {})
      } else if (update.type === 'log') told.set(update.node ?? 0, (told.get(update.node ?? 0) ?? 0) + 1)
      yield update
    }
  } finally {
    await file.close()
    await rm(temporary, { force: true })
  }
}

/** The last four states end a job. */
function isLast(update: JobUpdate): boolean {
  return update.type === 'state' && update.state !== 'pending' && update.state !== 'running'
}

/** What the file has beyond the lines of each node that were told already. */
async function* untold(path: string, told: ReadonlyMap<number, number>): AsyncGenerator<JobUpdate> {
  const left = new Map(told)
  const cutter = createLineCutter()
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    for (const update of cutter.push(chunk).map(line => JSON.parse(line) as JobUpdate)) {
      const node = update.type === 'log' ? (update.node ?? 0) : 0
      const skip = update.type === 'log' ? (left.get(node) ?? 0) : 0
      if (skip > 0) left.set(node, skip - 1)
      else yield update
    }
  }
}

const keptPath = (dir: string): string => join(dir, 'updates.jsonl')
