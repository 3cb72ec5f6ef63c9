import { readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import type { JobHandle } from '../flow/executor.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import { asStoreError } from './store-error.ts'

const JobNote = z.object({
  attempt: z.number().int().positive(),
  id: z.string(),
  executor: z.string(),
  /** Absent between the intention to submit and the executor's answer. */
  handle: z.looseObject({ executor: z.string(), id: z.string() }).optional(),
  nodes: z.number().optional(),
  devicesPerNode: z.number().optional(),
  /** When it was first seen running, in ms since 1970. */
  startedAt: z.number().optional(),
  /** It failed while it ran on, and is being cancelled: not to be followed again. */
  stopping: z.boolean().optional(),
})

/** `job.json`: a job that was, or was about to be, submitted and whose end nobody has dealt with. */
export interface JobNote extends Omit<z.infer<typeof JobNote>, 'handle'> {
  readonly handle?: JobHandle | undefined
}

/** The note at `path`; undefined when there is none. */
export async function readJobNote(path: string): Promise<JobNote | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return JobNote.parse(JSON.parse(text))
  } catch {
    // Written atomically, so this is no half file: it is of another version, whose job cannot be followed.
    return undefined
  }
}

/** Writes the note, whole and flushed: what it says must survive the moment after. */
export async function writeJobNote(path: string, note: JobNote): Promise<void> {
  await writeWhole(path, `${JSON.stringify(note, null, 2)}\n`).catch(asStoreError(path))
}

/** The job has ended and that was dealt with. */
export async function removeJobNote(path: string): Promise<void> {
  await rm(path, { force: true })
}
