import { readFile } from 'node:fs/promises'
import { isAbsolute, join, relative, resolve, sep } from 'node:path'
import { z } from 'zod'
import { isArtifact } from '../flow/artifact.ts'
import type { Canonical } from '../flow/key.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import { artifactFiles, fileDigest } from './artifact-files.ts'
import { asStoreError } from './store-error.ts'

const RecordFile = z.object({
  format: z.literal(1),
  step: z.string(),
  version: z.number(),
  key: z.string(),
  name: z.string(),
  input: z.record(z.string(), z.unknown()),
  output: z.unknown(),
  files: z.array(z.object({ path: z.string(), size: z.number(), digest: z.string() })),
  attempts: z.number(),
  startedAt: z.string(),
  finishedAt: z.string(),
})

/** The engine's note that a key is done; `output` paths and `files` are as on this machine. */
export interface StepRecord extends z.infer<typeof RecordFile> {
  readonly input: Readonly<Record<string, Canonical>>
}

/** Where paths in a record are anchored, so that a store can be moved. */
export interface Anchors {
  readonly store: string
  readonly workDir: string
}

/** Size and digest of every file that the artifacts in `output` name. */
export async function outputFiles(output: unknown): Promise<StepRecord['files']> {
  const files = (await Promise.all(artifactsIn(output).map(({ path }) => artifactFiles(path)))).flat()
  return Promise.all(files.map(async ({ path, size }) => ({ path, size, digest: await fileDigest(path) })))
}

/** Writes a record, last and atomically. */
export async function writeRecord(path: string, record: StepRecord, anchors: Anchors): Promise<void> {
  const anchored = {
    ...record,
    output: mapPaths(record.output, found => anchor(found, anchors)),
    files: record.files.map(file => ({ ...file, path: anchor(file.path, anchors) })),
  }
  await writeWhole(path, `${JSON.stringify(anchored, null, 2)}\n`).catch(asStoreError(path))
}

/** The record at `path`, or undefined when there is none or it is not one that this version wrote. */
export async function readRecord(path: string, anchors: Anchors): Promise<StepRecord | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  let parsed: ReturnType<typeof RecordFile.safeParse>
  try {
    parsed = RecordFile.safeParse(JSON.parse(text))
  } catch {
    return undefined
  }
  if (!parsed.success) return undefined
  return {
    ...parsed.data,
    input: parsed.data.input as Readonly<Record<string, Canonical>>,
    output: mapPaths(parsed.data.output, found => release(found, anchors)),
    files: parsed.data.files.map(file => ({ ...file, path: release(file.path, anchors) })),
  }
}

const ofWork = 'work:'
const ofStore = 'store:'

function anchor(path: string, { store, workDir }: Anchors): string {
  if (isWithin(path, workDir)) return ofWork + slashes(relative(workDir, path))
  if (isWithin(path, store)) return ofStore + slashes(relative(store, path))
  return path
}

function release(path: string, { store, workDir }: Anchors): string {
  if (path.startsWith(ofWork)) return join(workDir, path.slice(ofWork.length))
  if (path.startsWith(ofStore)) return join(store, path.slice(ofStore.length))
  return path
}

function isWithin(path: string, folder: string): boolean {
  const inner = relative(folder, resolve(path))
  return isAbsolute(path) && !isAbsolute(inner) && inner.split(sep)[0] !== '..'
}

const slashes = (path: string) => path.split(sep).join('/')

function artifactsIn(value: unknown): readonly { readonly path: string }[] {
  if (isArtifact(value)) return [value, ...Object.values(value).flatMap(artifactsIn)]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(artifactsIn) : []
}

function mapPaths(value: unknown, map: (path: string) => string): unknown {
  if (Array.isArray(value)) return value.map(item => mapPaths(item, map))
  if (typeof value !== 'object' || value === null) return value
  const mapped = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapPaths(item, map)]))
  return isArtifact(value) ? { ...mapped, path: map(value.path) } : mapped
}
