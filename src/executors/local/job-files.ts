import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessIdentity } from '../../process-identity.ts'
import { createLineCutter } from '../log-lines.ts'

/** How a job's command ended: with an exit code, or for a reason (a signal, a failed start). */
export interface JobExit {
  readonly exitCode?: number
  readonly reason?: string
}

/** The process that leads the job's group; undefined until it has claimed the job. */
export async function readLeader(dir: string): Promise<ProcessIdentity | undefined> {
  return (await readJson(join(dir, 'process.json'))) as ProcessIdentity | undefined
}

/** How the job ended; undefined while it has not, or when nobody was left to say. */
export async function readExit(dir: string): Promise<JobExit | undefined> {
  return (await readJson(join(dir, 'exit.json'))) as JobExit | undefined
}

/** Reads a growing log file: each call gives the lines completed since the last; `rest()` an unfinished one. */
export function createLogReader(path: string) {
  const chunk = Buffer.alloc(64 * 1024)
  const cutter = createLineCutter()
  let offset = 0
  let hasMore = false
  return {
    lines: async (): Promise<readonly string[]> => {
      hasMore = false
      const file = await open(path).catch(() => undefined)
      if (!file) return []
      try {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, offset)
        offset += bytesRead
        hasMore = bytesRead === chunk.length
        return cutter.push(chunk.subarray(0, bytesRead))
      } finally {
        await file.close()
      }
    },
    /** True when the last call filled its buffer, so that there may be more to read at once. */
    hasMore: (): boolean => hasMore,
    rest: cutter.rest,
  }
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : JSON.parse(text)
}
