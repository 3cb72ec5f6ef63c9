import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { LockedError } from '../errors.ts'
import { flush, removeTemporaries, writeWhole } from '../formats/atomic-file.ts'
import { isAlive, processIdentity } from '../process-identity.ts'
import { type ConversionPlan, ManifestFile, PlanValue, planDifferences, readManifest } from './manifest.ts'

export interface FolderInPartsOptions {
  /** What is to be made; parts of another plan are not kept. */
  readonly plan: ConversionPlan
  /** Keeps the parts that were finished when the work was stopped. For a folder of which the source never changes. */
  readonly resume?: boolean | undefined
  /** Whether all is flushed to the disk before it appears. Default true. */
  readonly flush?: boolean | undefined
}

/**
 * Gives what `write` notes of a part, or, after a call of `kept`, what it noted before the work was stopped. Parts may
 * be made at a time.
 */
export type MakePart = (
  name: string,
  write: () => Promise<readonly ManifestFile[]>,
  kept: () => void,
) => Promise<readonly ManifestFile[]>

const Notes = z.object({
  format: z.literal(1),
  owner: z.object({ host: z.string(), pid: z.number(), started: z.string() }).nullable(),
  plan: z.record(z.string(), PlanValue),
  parts: z.record(z.string(), z.array(ManifestFile)),
})

/**
 * Makes a folder appear at `path` whole, in the place of what is there, or not at all: `fill` writes it, part by part,
 * beside its place. When `fill` throws, nothing is left behind; with `resume` the finished parts are, in `.NAME.partial`,
 * and the next call goes on from there, as after a kill.
 * @throws LockedError while another process writes the same folder.
 */
export async function appearInParts(
  path: string,
  options: FolderInPartsOptions,
  fill: (folder: string, part: MakePart) => Promise<void>,
): Promise<void> {
  const { plan, resume = false, flush: isFlushed = true } = options
  const place = (ending: string) => join(dirname(path), `.${basename(path)}.${ending}`)
  const [folder, notesFile, aside] = [place('partial'), place('parts.json'), place('replaced')]
  const earlier = await readNotes(notesFile)
  if (earlier?.owner && isAlive(earlier.owner)) {
    const { pid, host } = earlier.owner
    throw new LockedError(`Process ${pid} on ${host} is writing ${path}.`, { pid, host })
  }
  await removeTemporaries(notesFile)
  // A kill between two renames left the old folder aside.
  if (await isThere(aside)) await ((await isThere(path)) ? rm(aside, { recursive: true }) : rename(aside, path))
  const isSame = (other: ConversionPlan | undefined) => other !== undefined && planDifferences(other, plan).length === 0
  if (resume && isSame((await readManifest(path))?.plan)) return rm(notesFile, { force: true })

  const parts = resume && isSame(earlier?.plan) ? await wholeParts(folder, earlier?.parts ?? {}) : {}
  // One after another, since parts may end at the same time and the last note must stay.
  let noted: Promise<void> = Promise.resolve()
  const note = (owner = processIdentity() ?? null) => {
    const write = () => writeWhole(notesFile, JSON.stringify({ format: 1, owner, plan, parts }), { flush: isFlushed })
    noted = noted.catch(() => {}).then(write)
    return noted
  }
  await mkdir(dirname(path), { recursive: true })
  await note()
  await removeOthers(folder, parts)
  await mkdir(folder, { recursive: true })
  try {
    await fill(folder, async (name, write, kept) => {
      if (parts[name] === undefined) {
        parts[name] = [...(await write())]
        if (resume) await note()
      } else kept()
      return parts[name]
    })
    if (isFlushed) await flush(folder)
    if (await isThere(path)) await rename(path, aside)
    await rename(folder, path).catch(async error => {
      if (await isThere(aside)) await rename(aside, path)
      throw error
    })
  } catch (error) {
    await removeOthers(folder, resume ? parts : {})
    if (resume && Object.keys(parts).length > 0) await note(null).catch(() => {})
    else await rm(notesFile, { force: true })
    throw error
  }
  if (isFlushed) await flush(dirname(path))
  for (const left of [notesFile, aside]) await rm(left, { recursive: true, force: true })
}

async function readNotes(file: string): Promise<z.infer<typeof Notes> | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return Notes.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

type Parts = Record<string, readonly ManifestFile[]>

/** Those whose files are all there, with the bytes that were noted. */
async function wholeParts(folder: string, noted: Readonly<Parts>): Promise<Parts> {
  const whole: Parts = {}
  for (const [name, files] of Object.entries(noted)) {
    const sizes = await Promise.all(files.map(({ file }) => stat(join(folder, file)).catch(() => undefined)))
    if (files.every(({ byteLength }, i) => sizes[i]?.size === byteLength)) whole[name] = files
  }
  return whole
}

async function removeOthers(folder: string, parts: Readonly<Parts>): Promise<void> {
  const kept = new Set(Object.values(parts).flatMap(files => files.map(({ file }) => file)))
  if (kept.size === 0) return rm(folder, { recursive: true, force: true })
  // Hidden ones too: a kill may have left a manifest that was being written.
  for (const file of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(file.parentPath, file.name)
    if (!file.isDirectory() && !kept.has(relative(folder, path).replaceAll('\\', '/'))) await rm(path)
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
