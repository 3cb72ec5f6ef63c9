import { createHash } from 'node:crypto'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { writeWhole } from '../formats/atomic-file.ts'
import type { DatasetCount } from '../formats/indexed-dataset-writer.ts'
import type { InputPosition } from './encode-corpora.ts'
import type { RowCount } from './row-count.ts'

/** How far some work had come when it was last saved. */
export interface ResumePoint {
  readonly format: 1
  /** Of the work that was begun: settings and files. */
  readonly identity: string
  /** The whole input is encoded; what was saved are datasets, not parts. */
  readonly isEncoded: boolean
  readonly position: InputPosition
  readonly saved: readonly DatasetCount[]
  /** Documents of each corpus in each dataset. */
  readonly documents: readonly (readonly number[])[]
  readonly count: RowCount
}

const size = z.number().int().nonnegative()

const ResumePoint: z.ZodType<ResumePoint> = z.object({
  format: z.literal(1),
  identity: z.string(),
  isEncoded: z.boolean(),
  position: z.object({ piece: size, rows: size }),
  saved: z.array(z.object({ sequences: size, documents: size, tokens: size })),
  documents: z.array(z.array(size)),
  count: z.object({
    ...{
      rows: size,
      empty: size,
      invalidTurns: size,
      wrongColumns: size,
      bad: size,
      overLength: size,
      cut: size,
      untrained: size,
      kept: size,
    },
    ...{ trainTokens: size, unknownTokens: size, lengths: z.array(size), badRows: z.array(z.string()) },
  }),
})

/** Where the resume point of an output prefix is kept. */
export function resumeFile(outputPrefix: string): string {
  return join(dirname(outputPrefix), `.${basename(outputPrefix)}.resume.json`)
}

/** The resume point of the same work; undefined when there is none. */
export async function readResumePoint(file: string, identity: string): Promise<ResumePoint | undefined> {
  try {
    const point = ResumePoint.parse(JSON.parse(await readFile(file, 'utf8')))
    return point.identity === identity ? point : undefined
  } catch {
    // Missing, of another version or damaged: the work is begun anew.
    return undefined
  }
}

export function writeResumePoint(file: string, point: ResumePoint): Promise<void> {
  return writeWhole(file, JSON.stringify(point))
}

export function removeResumePoint(file: string): Promise<void> {
  return rm(file, { force: true })
}

/** Identity of some work: its settings, and size and time of every file of the input and of the tokenizer's folder. */
export async function identityOf(
  settings: unknown,
  from: { files: readonly string[]; tokenizerDir: string },
): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(settings))
  const names = (await readdir(from.tokenizerDir)).sort().map(name => join(from.tokenizerDir, name))
  for (const file of [...from.files, ...names]) {
    const { size, mtimeNs } = await stat(file, { bigint: true })
    hash.update(`\n${basename(file)} ${size} ${mtimeNs}`)
  }
  return hash.digest('hex')
}
