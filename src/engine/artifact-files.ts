import { createHash } from 'node:crypto'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'

/** One file of an artifact. */
export interface ArtifactFile {
  readonly path: string
  /** Path within the artifact, with `/`: what counts in keys and does not change when a folder is moved. */
  readonly name: string
  readonly size: number
}

/** What a training of the toolchain leaves beside instruction data. Source: ModelLink, decoder_packed_mtf_dataset.py. */
const shuffleCache = /_indexmap_.*_shuffle_idx\.npy$/

const wholeUpTo = 64 * 1024 * 1024
const sampleBytes = 64 * 1024
const sampleCount = 16
const readBytes = 1024 * 1024

/**
 * The files that an artifact's path names, sorted by name: the file itself; all files below a folder (hidden ones
 * left out); the matches of a glob; or else the files beside it whose names begin with it, as Megatron names
 * datasets (`data/alpaca` for `data/alpaca_text_document.bin`), but for the toolchain's own caches. Empty when there is
 * none.
 */
export async function artifactFiles(path: string): Promise<readonly ArtifactFile[]> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isFile()) return [{ path, name: basename(path), size: found.size }]
  if (found?.isDirectory()) return describe(await filesBelow(path), path)
  const { glob, isDynamicPattern } = await import('tinyglobby')
  if (isDynamicPattern(path)) {
    const matches = (await glob(path, { absolute: true, onlyFiles: true })).map(match => resolve(match))
    return describe(matches, commonFolder(matches))
  }
  const beside = await readdir(dirname(path), { withFileTypes: true }).catch(() => [])
  const prefixed = beside.filter(entry => {
    const { name } = entry
    return entry.isFile() && name.startsWith(basename(path)) && !shuffleCache.test(name)
  })
  return describe(
    prefixed.map(entry => join(dirname(path), entry.name)),
    dirname(path),
  )
}

/**
 * Identity of a file's content: `sha256:…` of all of it up to 64 MiB; above that `sampled:…` of size, modification
 * time and sixteen evenly spaced samples of 64 KiB, the first of which covers a safetensors header's beginning.
 * A sampled identity is milliseconds for any size and can miss a change that keeps size and time.
 */
export async function fileDigest(path: string): Promise<string> {
  const { size, mtimeNs } = await stat(path, { bigint: true })
  const hash = createHash('sha256')
  const file = await open(path)
  try {
    if (size <= wholeUpTo) {
      for await (const bytes of piecesOf(file)) hash.update(bytes)
      return `sha256:${hash.digest('hex')}`
    }
    hash.update(`${size} ${mtimeNs}`)
    const step = (Number(size) - sampleBytes) / (sampleCount - 1)
    for (let i = 0; i < sampleCount; i++) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(sampleBytes), 0, sampleBytes, Math.floor(i * step))
      hash.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
  return `sampled:${hash.digest('hex')}`
}

/** The file's bytes from the first on. The next ones are read while these are made use of. */
async function* piecesOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  let [reading, spare] = [Buffer.allocUnsafeSlow(readBytes), Buffer.allocUnsafeSlow(readBytes)]
  for (let next = file.read(reading, 0, readBytes, null); ; ) {
    const { bytesRead } = await next
    if (bytesRead === 0) return
    const read = reading
    ;[reading, spare] = [spare, reading]
    next = file.read(reading, 0, readBytes, null)
    yield read.subarray(0, bytesRead)
  }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter(entry => !entry.isDirectory()).map(entry => join(entry.parentPath, entry.name))
  return paths.filter(
    path =>
      !relative(folder, path)
        .split(sep)
        .some(part => part.startsWith('.')),
  )
}

async function describe(paths: readonly string[], base: string): Promise<readonly ArtifactFile[]> {
  const files = await Promise.all(
    paths.map(async path => {
      // A link that leads nowhere names no file.
      const found = await stat(path).catch(() => undefined)
      return found?.isFile() ? [{ path, name: relative(base, path).split(sep).join('/'), size: found.size }] : []
    }),
  )
  return files.flat().sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

function commonFolder(paths: readonly string[]): string {
  const parts = paths.map(path => dirname(path).split(sep))
  const first = parts[0] ?? []
  const length = first.findIndex((part, index) => parts.some(other => other[index] !== part))
  return first.slice(0, length === -1 ? first.length : length).join(sep) || sep
}
