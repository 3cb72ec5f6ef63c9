import { createHash } from 'node:crypto'
import { type FileHandle, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { InputError, ServiceError } from '../../errors.ts'
import { writeWhole } from '../../formats/atomic-file.ts'
import type { Obs, ObsObject, ObsPlace, ObsUpload } from './obs.ts'

export interface TransferOptions {
  /** Folder for notes that a killed transfer goes on from. */
  readonly notes: string
  readonly signal?: AbortSignal | undefined
  /** Bytes of a part; default 16 MiB, and more where there would be over 10,000 parts. */
  readonly partBytes?: number
  /** Parts on their way at a time, each whole in memory; default 4. */
  readonly parallel?: number
  onBytes?(bytes: number): void
}

const mib = 1024 * 1024
const mostParts = 10_000

/**
 * Uploads a file, a large one in parts. A part is sent with its MD5, which OBS compares; parts that were received before
 * a kill are not sent again. The object is there whole or not at all.
 * @throws InputError when the file changes meanwhile; ServiceError.
 */
export async function uploadFile(obs: Obs, file: string, to: ObsPlace, options: TransferOptions): Promise<void> {
  const { notes, signal, parallel = 4, onBytes } = options
  const before = await stat(file)
  const chosen = options.partBytes ?? 16 * mib
  const partBytes = before.size <= chosen * mostParts ? chosen : Math.ceil(before.size / mostParts / mib) * mib
  await using handle = await open(file)
  const unchanged = async () => {
    const now = await handle.stat()
    if (now.size === before.size && now.mtimeMs === before.mtimeMs) return
    throw new InputError(`${file} changed while it was uploaded.`, { hint: 'Upload it when nobody writes to it.' })
  }
  if (before.size <= partBytes) {
    const bytes = await readAt(handle, { from: 0, to: before.size })
    await unchanged()
    await obs.put(to, bytes, signal)
    return onBytes?.(before.size)
  }

  const noteFile = join(notes, `upload-${hashOf(to)}.json`)
  const wanted = { size: before.size, mtimeMs: before.mtimeMs, partBytes }
  const begun = await beganBefore(obs, { to, noteFile, wanted, signal })
  const upload = begun?.upload ?? { ...to, uploadId: await obs.startUpload(to, signal) }
  if (!begun) {
    await mkdir(notes, { recursive: true })
    await writeWhole(noteFile, JSON.stringify({ ...wanted, uploadId: upload.uploadId }))
  }
  const etags = new Map(begun?.parts.map(({ number, etag }) => [number, etag]))
  const count = Math.ceil(before.size / partBytes)
  await inParallel(parallel, count, async part => {
    const [from, until] = [part * partBytes, Math.min((part + 1) * partBytes, before.size)]
    if (!etags.has(part + 1)) {
      const bytes = await readAt(handle, { from, to: until })
      etags.set(part + 1, await obs.uploadPart(upload, part + 1, bytes, signal))
    }
    onBytes?.(until - from)
  })
  await unchanged()
  const parts = Array.from({ length: count }, (_, part) => ({ number: part + 1, etag: etags.get(part + 1) ?? '' }))
  await obs.completeUpload(upload, parts, signal)
  await rm(noteFile, { force: true })
}

const UploadNote = z.object({ size: z.number(), mtimeMs: z.number(), partBytes: z.number(), uploadId: z.string() })

/** An upload of the same file that a kill left behind, with what was received of it. */
async function beganBefore(
  obs: Obs,
  work: {
    readonly to: ObsPlace
    readonly noteFile: string
    readonly wanted: Omit<z.infer<typeof UploadNote>, 'uploadId'>
    readonly signal: AbortSignal | undefined
  },
) {
  const { to, noteFile, wanted, signal } = work
  const read = UploadNote.safeParse(await readJson(noteFile))
  if (!read.success) return undefined
  const upload: ObsUpload = { ...to, uploadId: read.data.uploadId }
  const { size, mtimeMs, partBytes } = read.data
  if (size === wanted.size && mtimeMs === wanted.mtimeMs && partBytes === wanted.partBytes) {
    const parts = await obs.parts(upload, signal)
    return parts && { upload, parts: parts.filter(part => part.size === partSize(part.number, wanted)) }
  }
  // Of a file that is another now: what was received of it would be paid for for ever.
  await obs.abortUpload(upload, signal)
  return undefined
}

function partSize(number: number, { size, partBytes }: { size: number; partBytes: number }): number {
  return Math.min(partBytes, size - (number - 1) * partBytes)
}

/**
 * Downloads an object in parts to `file`, which appears whole or not at all, and checks its MD5 where the object has
 * one. Parts that were received before a kill are not fetched again.
 * @throws ServiceError when the object changes meanwhile (412), or its content is not what its MD5 says.
 */
export async function downloadFile(
  obs: Obs,
  from: ObsPlace & ObsObject,
  file: string,
  options: Omit<TransferOptions, 'notes'>,
): Promise<void> {
  const { signal, parallel = 4, partBytes = 16 * mib, onBytes } = options
  const { size, etag } = from
  const [partial, noteFile] = [`${file}.part`, `${file}.part.json`]
  await mkdir(dirname(file), { recursive: true })
  const read = DownloadNote.safeParse(await readJson(noteFile))
  const isSame = read.success && read.data.etag === etag && read.data.size === size && read.data.partBytes === partBytes
  const done = new Set(isSame ? read.data.done : [])
  await using handle = await open(partial, done.size > 0 ? 'r+' : 'w+')
  await handle.truncate(size)
  let noting = Promise.resolve()
  await inParallel(parallel, Math.ceil(size / partBytes), async part => {
    const [start, end] = [part * partBytes, Math.min((part + 1) * partBytes, size)]
    if (!done.has(part)) {
      const bytes = await obs.read(from, { from: start, to: end, etag }, signal)
      await handle.write(bytes, 0, bytes.length, start)
      await handle.datasync()
      done.add(part)
      const note = JSON.stringify({ etag, size, partBytes, done: [...done] })
      noting = noting.then(() => writeWhole(noteFile, note))
      await noting
    }
    onBytes?.(end - start)
  })
  if (/^[0-9a-f]{32}$/.test(etag)) await checkContent(handle, from)
  await handle.sync()
  await rename(partial, file)
  await rm(noteFile, { force: true })
}

const DownloadNote = z.object({
  ...{ etag: z.string(), size: z.number(), partBytes: z.number() },
  done: z.array(z.number()),
})

async function checkContent(handle: FileHandle, { bucket, key, size, etag }: ObsPlace & ObsObject): Promise<void> {
  const hash = createHash('md5')
  for (let at = 0; at < size; at += mib) hash.update(await readAt(handle, { from: at, to: Math.min(at + mib, size) }))
  const found = hash.digest('hex')
  if (found === etag) return
  throw new ServiceError(`obs ${bucket}/${key}: its MD5 is ${etag}, and what was received has ${found}.`, {
    ...{ service: 'obs', retryable: false },
    hint: 'Remove the file that ends with .part, and download it again.',
  })
}

async function readAt(
  handle: FileHandle,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<Buffer<ArrayBuffer>> {
  const bytes = Buffer.alloc(to - from)
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, at, bytes.length - at, from + at)
    if (bytesRead === 0) throw new InputError('The file became shorter while it was read.')
    at += bytesRead
  }
  return bytes
}

/** Carries out `work(0)` to `work(count - 1)`, a few at a time; after a failure none is begun. */
async function inParallel(parallel: number, count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  let failed = false
  const results = await Promise.allSettled(
    Array.from({ length: Math.min(parallel, count) }, async () => {
      while (next < count && !failed)
        await work(next++).catch(error => {
          failed = true
          throw error
        })
    }),
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch {
    return undefined
  }
}

function hashOf({ bucket, key }: ObsPlace): string {
  return createHash('sha256').update(`${bucket}/${key}`).digest('hex').slice(0, 16)
}
