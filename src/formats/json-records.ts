import { type FileHandle, open } from 'node:fs/promises'
import { FormatError } from '../errors.ts'
import { readJsonArray } from './json-array.ts'
import { type Chunks, isBlank, linePlace, parseRecord } from './json-record.ts'
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
