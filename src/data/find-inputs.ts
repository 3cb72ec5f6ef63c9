import type { Stats } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { InputError } from '../errors.ts'
import { containerOf, readableExtensions } from './read-records.ts'

/** Files to read rows from. */
export interface FoundInputs {
  /** For each path its files, sorted by name, byte by byte; the paths keep their order, and no file comes twice. */
  readonly files: readonly string[]
  /** Files of folders, and of patterns, that are not read, sorted. */
  readonly leftOut: readonly string[]
}

/**
 * Finds the files that paths stand for: a file, a folder, or a pattern such as `data/*.jsonl`.
 *
 * Of a folder, not of those in it, the files of one extension are read: of the one that most have, or the first by name
 * among as many; `.json` and `.jsonl` count apart, as in ModelLink, and so do compressed ones. Of a pattern all that
 * can be read are. Hidden files and links that lead nowhere are passed over.
 * @throws InputError when a path leads to nothing that can be read, with what is there.
 */
export async function findInputs(paths: string | readonly string[]): Promise<FoundInputs> {
  const given = typeof paths === 'string' ? [paths] : paths
  if (given.length === 0) throw new InputError('There is no file to read.', { field: 'files' })
  const files = new Map<string, string>()
  const leftOut: string[] = []
  // One after another: their order is that of the rows.
  for (const path of given) {
    const found = await findOne(path)
    leftOut.push(...found.leftOut)
    for (const file of found.files) {
      const real = await realpath(file)
      if (!files.has(real)) files.set(real, file)
    }
  }
  const kept = new Set(files.values())
  return { files: [...kept], leftOut: [...new Set(leftOut)].filter(file => !kept.has(file)).sort(byBytes) }
}

async function findOne(path: string): Promise<FoundInputs> {
  // Links are followed, by the system, which ends loops with an error.
  const found = await statOrNothing(path)
  if (found?.isFile()) {
    if (containerOf(path)) return { files: [path], leftOut: [] }
    throw nothingFound(path, 'is a file with another extension')
  }
  if (found?.isDirectory()) return findInFolder(path)
  if (found) throw nothingFound(path, 'is neither a file nor a folder')
  if (!/[*?[\]{}!()]/.test(path)) throw nothingFound(path, 'does not exist')
  return findByPattern(path)
}

async function findInFolder(folder: string): Promise<FoundInputs> {
  const all = await onlyFiles((await readdir(folder)).filter(isVisible).map(name => join(folder, name)))
  const counts = new Map<string, string[]>()
  for (const file of all) {
    const container = containerOf(file)
    if (container) counts.set(container, [...(counts.get(container) ?? []), file])
  }
  const [most] = [...counts].sort((a, b) => b[1].length - a[1].length || byBytes(a[0], b[0]))
  if (!most) throw nothingFound(folder, describe(all))
  const [, files] = most
  const chosen = new Set(files)
  return { files, leftOut: all.filter(file => !chosen.has(file)) }
}

async function findByPattern(pattern: string): Promise<FoundInputs> {
  const { glob } = await import('tinyglobby')
  const all = await onlyFiles(
    await glob(pattern, { followSymbolicLinks: false, expandDirectories: false, absolute: isAbsolute(pattern) }),
  )
  const files = all.filter(file => containerOf(file))
  if (files.length === 0) throw nothingFound(pattern, describe(all))
  return { files, leftOut: all.filter(file => !containerOf(file)) }
}

function isVisible(name: string): boolean {
  return !name.startsWith('.')
}

/** Those that are files, or links to some, sorted. */
async function onlyFiles(paths: readonly string[]): Promise<string[]> {
  const files: string[] = []
  for (const path of [...paths].sort(byBytes)) if ((await statOrNothing(path))?.isFile()) files.push(path)
  return files
}

/** Undefined for what is not there: missing, a link that leads nowhere, a loop of links. */
async function statOrNothing(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(code)) return undefined
    throw error
  }
}

/** The order of their UTF-8 bytes, which is the same on every machine. */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

function describe(files: readonly string[]): string {
  if (files.length === 0) return 'leads to no files'
  const named = files.slice(0, 5).join(', ')
  return `leads to ${files.length} files that are not read: ${named}${files.length > 5 ? ', …' : ''}`
}

function nothingFound(path: string, what: string): InputError {
  return new InputError(`${path} ${what}.`, {
    field: 'files',
    hint: `Rows are read from files with ${readableExtensions}.`,
  })
}
