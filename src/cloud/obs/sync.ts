import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { InputError } from '../../errors.ts'
import type { Obs, ObsObject } from './obs.ts'
import { downloadFile, type TransferOptions, uploadFile } from './transfer.ts'

/** A folder of a bucket: `obs://bucket/folder/`. */
export interface ObsFolder {
  readonly bucket: string
  /** Ends with `/`, or is empty. */
  readonly prefix: string
}

/** Takes `obs://bucket/folder` apart. @throws InputError for anything else. */
export function parseObsUrl(url: string): ObsFolder {
  const [, bucket, path = ''] = /^obs:\/\/([^/]+)(?:\/(.*))?$/.exec(url) ?? []
  if (bucket === undefined)
    throw new InputError(`'${url}' is no address of a bucket.`, { hint: "They look like 'obs://bucket/folder/'." })
  return { bucket, prefix: path === '' || path.endsWith('/') ? path : `${path}/` }
}

export interface Synced {
  readonly files: number
  readonly bytes: number
  /** Of these, files that were the same on both sides already. */
  readonly kept: number
}

type SyncOptions = TransferOptions & {
  onProgress?(doneBytes: number, totalBytes: number): void
}

/**
 * Brings a folder of a bucket here; what is here already with the same content stays, what is here besides is left
 * alone.
 * @throws InputError for a key that would lead out of the folder, and when there is nothing below the prefix.
 */
export async function downloadFolder(obs: Obs, from: ObsFolder, to: string, options: SyncOptions): Promise<Synced> {
  const { signal, onProgress } = options
  const objects: ObsObject[] = []
  // Folders that the console makes are objects without content.
  for await (const object of obs.list(from.bucket, from.prefix, signal))
    if (!object.key.endsWith('/')) objects.push(object)
  if (objects.length === 0)
    throw new InputError(`obs://${from.bucket}/${from.prefix}: there is nothing.`, { hint: 'Check bucket and folder.' })
  const total = objects.reduce((sum, { size }) => sum + size, 0)
  let done = 0
  let kept = 0
  for (const object of objects) {
    const file = fileOf(to, object.key.slice(from.prefix.length))
    if (await isSame(file, object)) {
      kept++
      done += object.size
      onProgress?.(done, total)
      continue
    }
    await downloadFile(obs, { ...object, bucket: from.bucket }, file, {
      ...options,
      onBytes: bytes => {
        done += bytes
        onProgress?.(done, total)
      },
    })
  }
  return { files: objects.length, bytes: total, kept }
}

function fileOf(folder: string, key: string): string {
  const file = resolve(folder, key)
  if (file.startsWith(resolve(folder) + sep) && !key.includes('\0')) return file
  throw new InputError(`The key '${key}' would be written outside ${folder}.`, { hint: 'Rename the object.' })
}

/** Puts a folder into a bucket; what is there already with the same content is not sent again. */
export async function uploadFolder(obs: Obs, from: string, to: ObsFolder, options: SyncOptions): Promise<Synced> {
  const { signal, onProgress } = options
  const there = new Map<string, ObsObject>()
  for await (const object of obs.list(to.bucket, to.prefix, signal)) there.set(object.key, object)
  const entries = await readdir(from, { recursive: true, withFileTypes: true })
  const files = entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
  const sizes = await Promise.all(files.map(async file => (await stat(file)).size))
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let done = 0
  let kept = 0
  for (const [at, file] of files.entries()) {
    const key = to.prefix + relative(from, file).split(sep).join('/')
    const same = there.get(key)
    if (same && (await isSame(file, same))) {
      kept++
      done += sizes[at] ?? 0
      onProgress?.(done, total)
      continue
    }
    await uploadFile(
      obs,
      file,
      { bucket: to.bucket, key },
      {
        ...options,
        onBytes: bytes => {
          done += bytes
          onProgress?.(done, total)
        },
      },
    )
  }
  return { files: files.length, bytes: total, kept }
}

const mib = 1024 * 1024

/** True when the file has the size and the MD5 of the object; of one uploaded in parts, for parts of whole MiB. */
async function isSame(file: string, { size, etag }: ObsObject): Promise<boolean> {
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile() || found.size !== size) return false
  const [, sum, count] = /^([0-9a-f]{32})(?:-(\d+))?$/.exec(etag) ?? []
  if (sum === undefined) return false
  if (count === undefined) return (await md5Of(file)).toString('hex') === sum
  // Which parts it was sent in is not told; most are of a size that is a power of two.
  for (let partBytes = 16 * mib; partBytes <= size * 2; partBytes *= 2) {
    if (Math.ceil(size / partBytes) !== Number(count)) continue
    const hash = createHash('md5')
    for (let start = 0; start < size; start += partBytes)
      hash.update(await md5Of(file, { start, end: Math.min(start + partBytes, size) - 1 }))
    if (hash.digest('hex') === sum) return true
  }
  return false
}

async function md5Of(file: string, range: { start?: number; end?: number } = {}): Promise<Buffer> {
  const hash = createHash('md5')
  await pipeline(createReadStream(file, range), hash)
  return hash.digest()
}
