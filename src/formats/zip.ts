import { FormatError, UnsupportedError } from '../errors.ts'
import type { RandomAccessFile } from './random-access-file.ts'

/** One stored file of a zip archive. */
export interface ZipEntry {
  readonly name: string
  /** Position of its first byte in the archive. */
  readonly offset: number
  readonly byteLength: number
  readonly crc32: number
}

/** A dense model's shard has at most some 4000, optimizer included. */
const maxEntries = 16_384
const maxDirectoryBytes = 32 * 2 ** 20
/** Headers that are read at a time. */
const headerBatch = 64
/** Bytes within which they are read at once. */
const headerSpan = 256 * 2 ** 10
const endOfDirectory = 0x06054b50
const zip64Locator = 0x07064b50
const zip64EndOfDirectory = 0x06064b50
const directoryHeader = 0x02014b50
const localHeader = 0x04034b50

/**
 * The entries of a zip archive by name, all of them STORED, each checked to lie inside the file and apart from the
 * others. Reads the directory and one header per entry.
 *
 * Source: PKWARE APPNOTE 6.3.10, with zip64.
 * @throws FormatError when a length, an offset or a name cannot be trusted; UnsupportedError for compression.
 */
export async function readZipEntries(file: RandomAccessFile): Promise<ReadonlyMap<string, ZipEntry>> {
  const directory = await findDirectory(file)
  const listed = listEntries(file, directory, await file.read(directory.offset, directory.byteLength))
  const entries = new Map<string, ZipEntry>()
  const sorted = [...listed].sort((a, b) => a.header - b.header)
  let headers: readonly Promise<Uint8Array>[] = []
  let free = 0
  for (const [i, entry] of sorted.entries()) {
    if (i % headerBatch === 0) headers = readHeaders(file, sorted.slice(i, i + headerBatch))
    if (entry.header < free) {
      refuse(
        file,
        entry.header,
        `'${entry.name}' to start at byte ${free} or later`,
        `byte ${entry.header}, inside another entry`,
      )
    }
    const header = await headers[i % headerBatch]!
    const offset = dataOffset(file, entry, header)
    free = offset + entry.byteLength
    if (free > directory.offset) {
      const found = `${entry.byteLength} bytes from byte ${offset}`
      refuse(file, entry.header, `'${entry.name}' to end before the directory at byte ${directory.offset}`, found)
    }
    checkAgreement(file, entry, header)
    entries.set(entry.name, { name: entry.name, offset, byteLength: entry.byteLength, crc32: entry.crc32 })
  }
  return entries
}

interface Directory {
  readonly offset: number
  readonly byteLength: number
  readonly count: number
}

interface ListedEntry {
  readonly name: string
  readonly nameBytes: Uint8Array
  readonly header: number
  readonly byteLength: number
  readonly crc32: number
}

async function findDirectory(file: RandomAccessFile): Promise<Directory> {
  const tailLength = Math.min(file.size, 22 + 0xffff)
  const start = file.size - tailLength
  const tail = viewOf(await file.read(start, tailLength))
  let at = tailLength - 22
  while (
    at >= 0 &&
    !(tail.getUint32(at, true) === endOfDirectory && at + 22 + tail.getUint16(at + 20, true) === tailLength)
  )
    at--
  if (at < 0) refuse(file, file.size, 'a zip archive that ends in its directory', 'no end of directory')
  const locatorAt = start + at - 20
  const locator = locatorAt >= 0 ? viewOf(await file.read(locatorAt, 20)) : undefined
  const isZip64 = locator?.getUint32(0, true) === zip64Locator
  const short = {
    count: tail.getUint16(at + 10, true),
    byteLength: tail.getUint32(at + 12, true),
    offset: tail.getUint32(at + 16, true),
  }
  const end = isZip64 ? await readZip64End(file, uint64(file, locator!, 8, locatorAt)) : short
  for (const [field, full] of Object.entries({ count: 0xffff, byteLength: 0xffffffff, offset: 0xffffffff })) {
    const [value, wide] = [short[field as keyof Directory], end[field as keyof Directory]]
    if (value !== wide && value !== full) refuse(file, start + at, `${field} ${wide}, as in the zip64 end`, `${value}`)
  }
  const limit = isZip64 ? locatorAt : start + at
  if (end.count > maxEntries || end.byteLength > maxDirectoryBytes) {
    const found = `${end.count} entries in ${end.byteLength} bytes`
    refuse(file, limit, `at most ${maxEntries} entries in ${maxDirectoryBytes} bytes of directory`, found)
  }
  if (end.offset + end.byteLength > limit) {
    refuse(
      file,
      start + at,
      `a directory that ends by byte ${limit}`,
      `${end.byteLength} bytes from byte ${end.offset}`,
    )
  }
  return end
}

async function readZip64End(file: RandomAccessFile, at: number): Promise<Directory> {
  const view = viewOf(await file.read(at, 56))
  if (view.getUint32(0, true) !== zip64EndOfDirectory) {
    refuse(file, at, 'a zip64 end of directory', `the number 0x${view.getUint32(0, true).toString(16)}`)
  }
  return {
    count: uint64(file, view, 32, at),
    byteLength: uint64(file, view, 40, at),
    offset: uint64(file, view, 48, at),
  }
}

function listEntries(file: RandomAccessFile, directory: Directory, bytes: Uint8Array): ListedEntry[] {
  const view = viewOf(bytes)
  const names = new Set<string>()
  const entries: ListedEntry[] = []
  let at = 0
  for (let i = 0; i < directory.count; i++) {
    const here = directory.offset + at
    if (at + 46 > bytes.length || view.getUint32(at, true) !== directoryHeader) {
      refuse(file, here, `directory entry ${i + 1} of ${directory.count}`, 'something else')
    }
    const nameLength = view.getUint16(at + 28, true)
    const extraLength = view.getUint16(at + 30, true)
    const next = at + 46 + nameLength + extraLength + view.getUint16(at + 32, true)
    if (next > bytes.length) {
      refuse(
        file,
        here,
        `a directory entry that ends by byte ${directory.offset + bytes.length}`,
        `byte ${directory.offset + next}`,
      )
    }
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength))
    checkName(file, here, name)
    if (names.has(name)) refuse(file, here, 'every name once', `'${name}' twice`)
    names.add(name)
    if (view.getUint16(at + 8, true) & 1) throw new UnsupportedError(`${file.path}: '${name}' is encrypted.`)
    const method = view.getUint16(at + 10, true)
    if (method !== 0)
      throw new UnsupportedError(
        `${file.path}: '${name}' is compressed (method ${method}); only stored entries are read.`,
      )
    const sizes = entrySizes(file, { view, at, here, extraAt: at + 46 + nameLength, extraLength })
    if (sizes.compressed !== sizes.byteLength) {
      refuse(file, here, `'${name}' stored in ${sizes.byteLength} bytes`, `${sizes.compressed} bytes`)
    }
    const nameBytes = bytes.subarray(at + 46, at + 46 + nameLength)
    entries.push({
      name,
      nameBytes,
      header: sizes.header,
      byteLength: sizes.byteLength,
      crc32: view.getUint32(at + 16, true),
    })
    at = next
  }
  if (at !== bytes.length) {
    const found = `${bytes.length - at} bytes more`
    refuse(file, directory.offset + at, `a directory of ${directory.count} entries`, found)
  }
  return entries
}

// Fields of 0xffffffff are in the zip64 extra field instead, in this order.
function entrySizes(
  file: RandomAccessFile,
  entry: { view: DataView; at: number; here: number; extraAt: number; extraLength: number },
): { byteLength: number; compressed: number; header: number } {
  const { view, at, here, extraAt, extraLength } = entry
  const [compressed, byteLength, header] = [20, 24, 42].map(field => view.getUint32(at + field, true)) as [
    number,
    number,
    number,
  ]
  let wide = extraAt
  let wideEnd = extraAt
  for (let extra = extraAt; extra + 4 <= extraAt + extraLength; extra += 4 + view.getUint16(extra + 2, true)) {
    if (view.getUint16(extra, true) !== 1) continue
    wide = extra + 4
    wideEnd = Math.min(wide + view.getUint16(extra + 2, true), extraAt + extraLength)
    break
  }
  const widen = (value: number): number => {
    if (value !== 0xffffffff) return value
    if (wide + 8 > wideEnd) refuse(file, here, 'a zip64 field for a size of 4 GiB or more', 'none')
    wide += 8
    return uint64(file, view, wide - 8, here)
  }
  const fullLength = widen(byteLength)
  const fullCompressed = widen(compressed)
  return { byteLength: fullLength, compressed: fullCompressed, header: widen(header) }
}

// Those before a failing one are checked first: its error waits until it is asked for.
function readHeaders(file: RandomAccessFile, entries: readonly ListedEntry[]): readonly Promise<Uint8Array>[] {
  const first = entries[0]!.header
  const last = Math.max(...entries.map(({ header, nameBytes }) => header + 30 + nameBytes.length))
  const together = last - first <= headerSpan && last <= file.size ? file.read(first, last - first) : undefined
  const headers = entries.map(async ({ header, nameBytes }) => {
    const length = 30 + nameBytes.length
    return together === undefined
      ? file.read(header, length)
      : (await together).subarray(header - first).subarray(0, length)
  })
  for (const header of headers) header.catch(() => undefined)
  return headers
}

function dataOffset(file: RandomAccessFile, entry: ListedEntry, bytes: Uint8Array): number {
  const name = entry.nameBytes
  const view = viewOf(bytes)
  const isIts = view.getUint32(0, true) === localHeader && view.getUint16(26, true) === name.length
  if (!isIts || Buffer.compare(bytes.subarray(30), name) !== 0) {
    refuse(file, entry.header, `the header of '${entry.name}'`, 'something else')
  }
  return entry.header + 30 + name.length + view.getUint16(28, true)
}

function checkAgreement(file: RandomAccessFile, entry: ListedEntry, bytes: Uint8Array): void {
  const view = viewOf(bytes)
  // Some readers go by this header and not by the directory: it must tell of the same bytes. With flag 8 sizes and
  // CRC-32 may follow the data instead, as PyTorch writes them.
  const [flags, method] = [view.getUint16(6, true), view.getUint16(8, true)]
  const [crc, compressed, size] = [14, 18, 22].map(at => view.getUint32(at, true)) as [number, number, number]
  const isLater = (flags & 8) !== 0 && crc === 0 && compressed === 0 && size === 0
  const isSize = (value: number): boolean => value === 0xffffffff || value === entry.byteLength
  const isSame = isLater || (crc === entry.crc32 && isSize(size) && isSize(compressed))
  if (method !== 0 || (flags & 1) !== 0 || !isSame) {
    const found = `method ${method}, ${compressed} and ${size} bytes, CRC-32 0x${crc.toString(16)}`
    refuse(file, entry.header, `a header of '${entry.name}' that agrees with the directory`, found)
  }
}

function checkName(file: RandomAccessFile, offset: number, name: string): void {
  const isPlain = name !== '' && !/^[/]|[\\\0:]/.test(name) && !name.split('/').includes('..')
  if (!isPlain) refuse(file, offset, 'names that stay inside the archive', JSON.stringify(name))
}

function uint64(file: RandomAccessFile, view: DataView, at: number, offset: number): number {
  const value = view.getBigUint64(at, true)
  if (value > BigInt(file.size)) refuse(file, offset, `a number up to the file's ${file.size} bytes`, `${value}`)
  return Number(value)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function refuse(file: RandomAccessFile, offset: number, expected: string, found: string): never {
  throw new FormatError({ file: file.path, offset, expected, found })
}
