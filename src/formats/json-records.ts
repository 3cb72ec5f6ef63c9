import { FormatError } from '../errors.ts'
import { readJsonArray } from './json-array.ts'
import { parseLines } from './json-lines.ts'
import { isBlank } from './json-record.ts'
import type { ReadRecordsOptions, RecordBatch } from './record-batch.ts'
import { openText, type TextChunk, type TextSource } from './text-source.ts'

/**
 * Rows of a JSON file: an object on each line, or one array of objects. Which of the two is told by the first byte.
 *
 * Byte order mark, CRLF, blank lines and a last line without newline are accepted. Memory is one read of 4 MiB and
 * its rows, or the longest row. A row that is no JSON object is a FormatError with its line, column and byte; passed
 * over, it ends with its line, or where its brackets do in an array.
 */
export async function* readJsonRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const text = await openText(file, options)
  try {
    const from = await findStart(text, options)
    if (from) yield* from.isArray ? readJsonArray(text, from) : readLines(text, from)
  } finally {
    await text.close()
  }
}

/** The first byte that is not blank, which tells what the file is; undefined when there is none. */
async function findStart(
  text: TextSource,
  { skipBad }: ReadRecordsOptions,
): Promise<{ chunk: TextChunk; start: number; isArray: boolean } | undefined> {
  let chunk = await text.next(0)
  while (chunk) {
    const { bytes, offset } = chunk
    for (let start = offset === 0 && isMarked(bytes) ? 3 : 0; start < bytes.length; start++) {
      const byte = bytes[start]
      if (byte === 0x5b || byte === 0x7b) return { chunk, start, isArray: byte === 0x5b }
      if (isBlank(byte)) continue
      if (skipBad) return { chunk, start, isArray: false }
      throw new FormatError({
        file: text.file,
        offset: text.place(offset + start).offset,
        expected: 'JSON objects on lines, or an array of them, in UTF-8',
        found: `byte 0x${byte?.toString(16).padStart(2, '0')}`,
      })
    }
    chunk = await text.next(bytes.length)
  }
  return undefined
}

function isMarked(bytes: Buffer): boolean {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf
}

async function* readLines(text: TextSource, from: { chunk: TextChunk; start: number }): AsyncGenerator<RecordBatch> {
  const { file, place } = text
  let start = from.start
  for (let chunk: TextChunk | undefined = from.chunk; chunk; chunk = await text.next(start), start = 0) {
    const { bytes, offset, isLast } = chunk
    const end = isLast ? bytes.length : bytes.lastIndexOf(0x0a) + 1
    const { records, starts } = parseLines(bytes.subarray(start, end), {
      file,
      offset: offset + start,
      place,
      bad: text.bad,
    })
    start = end
    const bad = text.bad.take()
    if (records.length > 0 || bad.bad) {
      yield { file, records, ...bad, bytesRead: text.bytesRead(offset + end), locate: text.locator(starts) }
    }
  }
}
