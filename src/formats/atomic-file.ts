import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Name of a sibling that nobody reads: `.NAME.RANDOM.tmp` in the same folder, so that a rename is atomic. */
export function siblingTemp(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)
}

/**
 * Makes a file or folder appear at `path` complete or not at all.
 *
 * `fill` writes a sibling temporary path; then it is flushed unless told not to, renamed over `path`, and the folder is
 * flushed. When `fill` throws, nothing is left behind and `path` is as it was. A folder must not exist at `path` yet.
 */
export async function appearWhole<T>(
  path: string,
  fill: (temporary: string) => Promise<T>,
  { flush: isFlushed = true }: Flushing = {},
): Promise<T> {
  const temporary = siblingTemp(path)
  try {
    const result = await fill(temporary)
    if (isFlushed) await flush(temporary)
    await rename(temporary, path)
    if (isFlushed) await flush(dirname(path))
    return result
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  }
}

export interface Flushing {
  /** Whether all is on the disk when it is done. Default true; a flush may have to wait for what others wrote, too. */
  readonly flush?: boolean | undefined
}

/** Writes `data` to `path` whole or not at all, flushed to the disk when it returns; makes the folder if need be. */
export async function writeWhole(path: string, data: string | Uint8Array, options: Flushing = {}): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const fill = async (temporary: string) => {
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(data)
    } finally {
      await file.close()
    }
  }
  await appearWhole(path, fill, options)
}

/** Removes what killed writings of `path` left beside it; only where nobody else writes it. */
export async function removeTemporaries(path: string): Promise<void> {
  const [start, end] = [`.${basename(path)}.`, /^[0-9a-f]{12}\.tmp$/]
  for (const name of await readdir(dirname(path)).catch(() => []))
    if (name.startsWith(start) && end.test(name.slice(start.length)))
      await rm(join(dirname(path), name), { recursive: true, force: true })
}

/** Flushes a file, or a folder's list of names, to the disk. */
export async function flush(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
