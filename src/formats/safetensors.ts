import { FormatError, UnsupportedError } from '../errors.ts'
import { scanJson } from './json-scan.ts'
import { openRandomAccessFile, type RandomAccessFile } from './random-access-file.ts'
import type { RowReader } from './row-reader.ts'
import { type Dtype, dtypeBytes, type TensorInfo, type TensorSource } from './tensor.ts'

/** One tensor of a safetensors file. */
export interface SafetensorsEntry extends TensorInfo {
  /** Position of its first byte in the file. */
  readonly offset: number
  readonly byteLength: number
}

/** A safetensors file: its header is read, its tensors are read in pieces. */
export interface SafetensorsFile extends TensorSource {
  readonly path: string
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>
  /** The `__metadata__` texts. */
  readonly metadata: Readonly<Record<string, string>>
}

/** The format allows 100 MB (safetensors, src/tensor.rs, MAX_HEADER_SIZE); 16 MiB hold more than 100 000 tensors. */
const maxHeaderBytes = 16 * 2 ** 20
const maxAxes = 64
const maxNameLength = 4096
/** The header is an object of objects of lists; a tensor's entry has at least 50 bytes, 3 of these and 4 keys. */
const headerLimits = { maxDepth: 3, maxItems: maxAxes, minBytes: 12 }
const otherDtypes = new Set(['F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F4', 'F6_E2M3', 'F6_E3M2', 'U16', 'U32', 'U64', 'C64'])

/**
 * Opens a safetensors file by reading its header alone, and checks all of it: the tensors fill the file from the end
 * of the header to the end of the file, without holes and without overlap, each as long as shape and type say.
 *
 * @throws FormatError with the position of the lie; UnsupportedError for types that weights here never have (FP8).
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openRandomAccessFile(path)
  try {
    const start = await readHeaderLength(file)
    const header = parseHeader(file, await file.read(8, start - 8))
    const tensors = new Map<string, SafetensorsEntry>()
    let metadata: Readonly<Record<string, string>> = {}
    for (const [name, value] of Object.entries(header)) {
      if (name.length > maxNameLength)
        refuse(file, 8, `names of up to ${maxNameLength} characters`, `'${name.slice(0, 60)}…'`)
      if (name === '__metadata__') metadata = readMetadata(file, value)
      else tensors.set(name, readEntry(file, { name, value, start }))
    }
    checkCover(file, { start, tensors })
    return { path, tensors, metadata, readRows: rowReader(file, tensors), close: () => file.close() }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function readHeaderLength(file: RandomAccessFile): Promise<number> {
  const bytes = Buffer.from(await file.read(0, 8))
  const length = bytes.readBigUInt64LE(0)
  const limit = Math.min(maxHeaderBytes, file.size - 8)
  if (length > BigInt(limit)) refuse(file, 0, `a header of at most ${limit} bytes`, `a length of ${length}`)
  return 8 + Number(length)
}

function parseHeader(file: RandomAccessFile, bytes: Uint8Array): Record<string, unknown> {
  if (bytes[0] !== 0x7b) refuse(file, 8, "a header that starts with '{'", `byte ${bytes[0]}`)
  const scanned = scanJson(bytes, headerLimits)
  if ('tooMuch' in scanned) return refuse(file, 8, 'a header of tensors with up to 64 axes', scanned.tooMuch)
  let header: Record<string, unknown>
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Record<string, unknown>
  } catch (cause) {
    throw new FormatError({
      file: file.path,
      offset: 8,
      expected: 'a JSON header',
      found: (cause as Error).message,
      cause,
    })
  }
  const names = Object.keys(header).length
  if (names !== scanned.keys) refuse(file, 8, 'every name once', `${scanned.keys} entries with ${names} names`)
  return header
}

function readMetadata(file: RandomAccessFile, value: unknown): Readonly<Record<string, string>> {
  const isTexts =
    typeof value === 'object' && value !== null && Object.values(value).every(text => typeof text === 'string')
  if (!isTexts) refuse(file, 8, 'texts in __metadata__', JSON.stringify(value).slice(0, 60))
  return value as Record<string, string>
}

function readEntry(file: RandomAccessFile, entry: { name: string; value: unknown; start: number }): SafetensorsEntry {
  const { name, start } = entry
  const { dtype, shape, data_offsets: offsets, ...rest } = (entry.value ?? {}) as Record<string, unknown>
  const others = Object.keys(rest)
  if (others.length > 0) refuse(file, 8, `dtype, shape and data_offsets of '${name}'`, `'${others[0]}'`)
  if (typeof dtype === 'string' && otherDtypes.has(dtype)) {
    throw new UnsupportedError(
      `${file.path}: tensor '${name}' has type ${dtype}; ${Object.keys(dtypeBytes).join(', ')} are read.`,
    )
  }
  if (typeof dtype !== 'string' || !Object.hasOwn(dtypeBytes, dtype))
    refuse(file, 8, `a type of tensor '${name}'`, `${dtype}`)
  if (!isSizes(shape)) refuse(file, 8, `a shape of tensor '${name}'`, `${JSON.stringify(shape)}`.slice(0, 60))
  if (!isSizes(offsets) || (offsets as number[]).length !== 2) {
    refuse(file, 8, `two data_offsets of tensor '${name}'`, `${JSON.stringify(offsets)}`.slice(0, 60))
  }
  const [from, to] = offsets as [number, number]
  const byteLength = (shape as number[]).reduce((a, b) => a * b, dtypeBytes[dtype as Dtype])
  if (to > file.size - start) {
    refuse(file, start + from, `tensor '${name}' to end by byte ${file.size - start} of the data`, `byte ${to}`)
  }
  if (to - from !== byteLength) {
    refuse(file, start + from, `${byteLength} bytes for tensor '${name}' of ${dtype} [${shape}]`, `${to - from}`)
  }
  return { name, dtype: dtype as Dtype, shape: shape as number[], offset: start + from, byteLength }
}

function checkCover(
  file: RandomAccessFile,
  layout: { start: number; tensors: ReadonlyMap<string, SafetensorsEntry> },
): void {
  let at = layout.start
  for (const entry of [...layout.tensors.values()].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
    const found =
      entry.offset < at ? `byte ${entry.offset}, inside another tensor` : `byte ${entry.offset}, after a hole`
    if (entry.offset !== at) refuse(file, entry.offset, `tensor '${entry.name}' at byte ${at}`, found)
    at += entry.byteLength
  }
  if (at !== file.size) refuse(file, at, `the file to end with its last tensor at byte ${at}`, `${file.size} bytes`)
}

function rowReader(file: RandomAccessFile, tensors: ReadonlyMap<string, SafetensorsEntry>): RowReader {
  let buffer = new Uint8Array(0)
  const readRows: RowReader = async (name, start, end, into) => {
    const entry = tensors.get(name)
    const rows = entry?.shape[0] ?? 1
    if (entry === undefined || !(0 <= start && start <= end && end <= rows)) {
      throw new FormatError({
        file: file.path,
        expected: `rows ${start} to ${end} of '${name}'`,
        found: entry ? `${rows} rows` : 'no such tensor',
      })
    }
    const rowBytes = rows === 0 ? 0 : entry.byteLength / rows
    const length = (end - start) * rowBytes
    if (into === undefined && buffer.length < length) buffer = new Uint8Array(length)
    return file.read(entry.offset + start * rowBytes, length, into ?? buffer)
  }
  const { path, fd } = file
  return Object.assign(readRows, {
    pieces: (name: string) => {
      const { offset, shape } = tensors.get(name)!
      return [{ place: { path, fd, offset }, row: 0, rows: shape[0] ?? 1, column: 0, columns: shape[1] ?? 1 }]
    },
  })
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= maxAxes && value.every(size => Number.isSafeInteger(size) && size >= 0)
}

function refuse(file: RandomAccessFile, offset: number, expected: string, found: string): never {
  throw new FormatError({ file: file.path, offset, expected, found })
}
