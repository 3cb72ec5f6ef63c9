import { isUtf8 } from 'node:buffer'
import { closeSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { FormatError } from '../errors.ts'
import { readJsonArray } from './json-array.ts'
import type { DataRecord, ReadRecordsOptions, RecordBatch } from './record-batch.ts'

/** Bytes asked of the file at a time. */
const readBytes = 4 << 20

/** Longest row that is read, in bytes: one row has to fit in memory. */
export const maxRecordBytes = 256 << 20

/**
 * Rows of a JSON file: an object on each line, or one array of objects. Which of the two is told by the first byte.
 *
 * Byte order mark, CRLF, blank lines and a last line without newline are accepted. Memory is one read of 4 MiB and
 * its rows, or the longest row. A row that is no JSON object is a FormatError with its line, column and byte.
 */
export async function* readJsonRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const handle = await open(file, 'r')
  try {
    const { start, isArray } = await findStart(handle, file)
    const chunks = readChunks(handle, { file, start, signal: options.signal })
    yield* isArray ? readJsonArray(chunks, file) : readLines(chunks, file)
  } finally {
    await handle.close()
  }
}

/** Some bytes of a file, from a row's first byte on. */
export interface Chunk {
  readonly bytes: Buffer
  /** Where `bytes` starts in the file. */
  readonly offset: number
  readonly isLast: boolean
}

/** Says how many bytes of a chunk are done with; the next chunk starts with the rest. */
export type Chunks = AsyncGenerator<Chunk, void, number>

/**
 * The file from `start` on; the reader answers each chunk with the bytes it used. The rest comes again, followed by
 * more: so a row that crosses a read is whole in the next chunk. A chunk holds until the next is asked for.
 */
async function* readChunks(
  handle: FileHandle,
  from: { file: string; start: number; signal?: AbortSignal | undefined },
): Chunks {
  let buffer = Buffer.allocUnsafe(readBytes)
  let kept = 0
  let offset = from.start
  for (;;) {
    from.signal?.throwIfAborted()
    if (kept === buffer.length) {
      if (kept >= maxRecordBytes) {
        throw new FormatError({
          file: from.file,
          offset,
          expected: `rows of at most ${maxRecordBytes} bytes`,
          found: 'a longer one',
        })
      }
      buffer = Buffer.concat([buffer, Buffer.allocUnsafe(buffer.length)])
    }
    const { bytesRead } = await handle.read(buffer, kept, buffer.length - kept, offset + kept)
    const filled = kept + bytesRead
    const used: number = yield { bytes: buffer.subarray(0, filled), offset, isLast: bytesRead === 0 }
    if (bytesRead === 0) return
    buffer.copyWithin(0, used, filled)
    kept = filled - used
    offset += used
  }
}

async function findStart(handle: FileHandle, file: string): Promise<{ start: number; isArray: boolean }> {
  const piece = Buffer.alloc(4096)
  let position = 0
  for (;;) {
    const { bytesRead } = await handle.read(piece, 0, piece.length, position)
    if (bytesRead === 0) return { start: position, isArray: false }
    const marked = position === 0 && piece.subarray(0, 3).equals(byteOrderMark)
    for (let i = marked ? 3 : 0; i < bytesRead; i++) {
      const byte = piece[i]
      if (byte === 0x5b) return { start: position + i, isArray: true }
      if (byte === 0x7b) return { start: position + i, isArray: false }
      if (!isBlank(byte)) {
        throw new FormatError({
          file,
          offset: position + i,
          expected: 'JSON objects on lines, or an array of them, in UTF-8',
          found: `byte 0x${byte?.toString(16).padStart(2, '0')}`,
        })
      }
    }
    position += bytesRead
  }
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/** True for the four bytes that JSON counts as white space. */
export function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

async function* readLines(chunks: Chunks, file: string): AsyncGenerator<RecordBatch> {
  let step = await chunks.next(0)
  while (!step.done) {
    const { bytes, offset, isLast } = step.value
    const end = isLast ? bytes.length : bytes.lastIndexOf(0x0a) + 1
    const records: DataRecord[] = []
    const starts: number[] = []
    for (let start = 0; start < end; ) {
      const newline = bytes.indexOf(0x0a, start)
      const stop = newline < 0 ? end : newline
      if (!isBlankLine(bytes, start, stop)) {
        records.push(parseRecord({ bytes, start, stop, file, offset: offset + start }))
        starts.push(offset + start)
      }
      start = stop + 1
    }
    if (records.length > 0) {
      yield { file, records, bytesRead: offset + end, locate: index => linePlace(file, starts[index] ?? offset) }
    }
    step = await chunks.next(end)
  }
}

function isBlankLine(bytes: Buffer, start: number, stop: number): boolean {
  for (let i = start; i < stop; i++) if (!isBlank(bytes[i])) return false
  return true
}

/** One row of JSON text: `bytes` from `start` to `stop`, of which the first is byte `offset` of the file. */
export interface RecordText {
  readonly bytes: Buffer
  readonly start: number
  readonly stop: number
  readonly file: string
  readonly offset: number
}

/** The row as an object. @throws FormatError with its line and column when it is not one, or not UTF-8. */
export function parseRecord({ bytes, start, stop, file, offset }: RecordText): DataRecord {
  const text = bytes.toString('utf8', start, stop)
  // A replacement character may stand in the text itself; only when there is one is the closer look needed.
  if (text.includes('\ufffd') && !isUtf8(bytes.subarray(start, stop))) {
    const { place } = linePlace(file, offset)
    throw new FormatError({ file, offset, expected: 'UTF-8', found: `other bytes in ${place}` })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const { message } = cause as SyntaxError
    const character = errorPosition(text, message)
    const at = offset + Buffer.byteLength(text.slice(0, character))
    const where = `${linePlace(file, at).place}, column ${columnOf(text, character)}`
    const what = message.replace(/ in JSON at position.*$/s, '')
    throw new FormatError({ file, offset: at, expected: 'a JSON object', found: `at ${where}: ${what}`, cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const kind = Array.isArray(value) ? 'an array' : value === null ? 'null' : `a ${typeof value}`
    const { place } = linePlace(file, offset)
    throw new FormatError({ file, offset, expected: 'a JSON object', found: `${kind} in ${place}` })
  }
  return value as DataRecord
}

/** V8 names the position of most errors, but not of an unexpected token: that is where a cut first makes a difference. */
function errorPosition(text: string, message: string): number {
  const named = /at position (\d+)/.exec(message)?.[1]
  if (named) return Number(named)
  if (!message.startsWith('Unexpected token')) return text.length
  let [before, reached] = [0, text.length]
  while (reached - before > 1) {
    const middle = (before + reached) >> 1
    if (failsWith(text.slice(0, middle), 'Unexpected token')) reached = middle
    else before = middle
  }
  return before
}

function failsWith(text: string, prefix: string): boolean {
  try {
    JSON.parse(text)
    return false
  } catch (error) {
    return (error as SyntaxError).message.startsWith(prefix)
  }
}

function columnOf(text: string, character: number): number {
  return character - text.lastIndexOf('\n', character - 1)
}

/** The line that byte `offset` of a file stands in, counted from 1. Reads the file up to there: for messages only. */
export function linePlace(file: string, offset: number): { readonly place: string; readonly offset: number } {
  const descriptor = openSync(file, 'r')
  try {
    const piece = Buffer.allocUnsafe(1 << 20)
    let line = 1
    for (let position = 0; position < offset; ) {
      const count = readSync(descriptor, piece, 0, Math.min(piece.length, offset - position), position)
      if (count === 0) break
      for (let i = piece.indexOf(0x0a); i >= 0 && i < count; i = piece.indexOf(0x0a, i + 1)) line++
      position += count
    }
    return { place: `line ${line}`, offset }
  } finally {
    closeSync(descriptor)
  }
}
