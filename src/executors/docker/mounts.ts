import { existsSync, statSync } from 'node:fs'
import { dirname, resolve, sep } from 'node:path'
import { InputError } from '../../errors.ts'
import type { Launch } from '../../flow/launch.ts'

/** A path of this machine that a container sees under the same name. */
export interface Mount {
  readonly path: string
  readonly readOnly: boolean
}

/** Folders of an image that nothing may be put over. */
const systemFolders = ['/', '/bin', '/boot', '/dev', '/etc', '/lib', '/lib64', '/proc', '/run', '/sbin', '/sys', '/usr']

/**
 * The fewest mounts under which a launch finds what it reads and can write what it writes.
 *
 * Read words are mounted themselves, or with their folder when they are the beginning of file names, as Megatron's
 * `--data-path` is. Of a written word its folder is mounted unless it is one itself, because files appear by renames.
 * The folder that a launch runs in is written too. What lies in a mount that allows as much needs none of its own.
 * @throws InputError for a path that is not there, or would cover the image's own system.
 */
export function mountsOf(launch: Launch, more: readonly Mount[] = []): readonly Mount[] {
  const mounts = [...more]
  for (const word of launch.argv) {
    if (typeof word !== 'object') continue
    if ('read' in word) mounts.push({ path: readPath(resolve(word.read)), readOnly: true })
    if ('write' in word) mounts.push({ path: writtenFolder(resolve(word.write)), readOnly: false })
  }
  if (launch.dir !== undefined && existsSync(launch.dir)) mounts.push({ path: resolve(launch.dir), readOnly: false })
  for (const { path } of mounts)
    if (systemFolders.includes(path) && !more.some(mount => mount.path === path))
      throw new InputError(`docker: ${path} cannot be mounted, as it would cover the image's own.`, {
        hint: 'Keep what the job reads and writes in folders of its own.',
      })
  return leastMounts(mounts)
}

/** Each path once, writable if any says so, and none below another that allows as much; parents first. */
export function leastMounts(mounts: readonly Mount[]): readonly Mount[] {
  const sorted = [...mounts].sort(
    (a, b) => depth(a.path) - depth(b.path) || (a.path < b.path ? -1 : Number(a.path > b.path)) || writableFirst(a, b),
  )
  const kept: Mount[] = []
  for (const mount of sorted) {
    const around = kept.filter(other => covers(other.path, mount.path)).at(-1)
    if (!around || (around.readOnly && !mount.readOnly)) kept.push(mount)
  }
  return kept
}

const depth = (path: string): number => path.split(sep).filter(Boolean).length
const writableFirst = (a: Mount, b: Mount): number => Number(a.readOnly) - Number(b.readOnly)
const covers = (outer: string, inner: string): boolean =>
  inner === outer || inner.startsWith(outer.endsWith(sep) ? outer : outer + sep)

function readPath(path: string): string {
  if (existsSync(path)) return path
  if (existsSync(dirname(path))) return dirname(path)
  throw new InputError(`docker: ${path} is to be read, and neither it nor its folder is there.`)
}

function writtenFolder(path: string): string {
  return isFolder(path) ? path : dirname(path)
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
