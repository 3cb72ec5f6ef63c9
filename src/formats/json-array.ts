import { FormatError } from '../errors.ts'
import { isBlank, parseRecord } from './json-record.ts'
import type { DataRecord, RecordBatch } from './record-batch.ts'
import type { TextChunk, TextSource } from './text-source.ts'

/** Where the scan of an array stands. Numbers, not words: it is looked at for every byte between elements. */
const beforeArray = 0
const beforeFirst = 1
const beforeElement = 2
const afterElement = 3
const afterArray = 4

/** Rows of one JSON array: the scan finds where elements end (strings, escapes, depth), JSON.parse reads each. */
export async function* readJsonArray(
  text: TextSource,
  from: { chunk: TextChunk; start: number },
): AsyncGenerator<RecordBatch> {
  const { file, place } = text
  let state = beforeArray
  let at = from.start
  for (let chunk: TextChunk | undefined = from.chunk; chunk; chunk = await text.next(at), at = 0) {
    const { bytes, offset, isLast } = chunk
    const records: DataRecord[] = []
    const starts: number[] = []
    for (; at < bytes.length; at++) {
      const byte = bytes[at]
      if (isBlank(byte)) continue
      if (state === beforeArray) state = beforeFirst
      else if (state === afterElement && byte === comma) state = beforeElement
      else if ((state === afterElement || state === beforeFirst) && byte === closeBracket) state = afterArray
      else if (state === beforeFirst || state === beforeElement) {
        const stop = elementEnd(bytes, at)
        if (stop < 0 && !isLast) break
        const row = { bytes, start: at, stop: stop < 0 ? bytes.length : stop, file, offset: offset + at, place }
        records.push(parseRecord(row))
        starts.push(row.offset)
        at = row.stop - 1
        state = afterElement
      } else {
        const expected = state === afterArray ? 'nothing after the array' : "',' or ']' after a row"
        const where = place(offset + at)
        const found = `'${String.fromCharCode(byte ?? 0)}' in ${where.place}`
        throw new FormatError({ file, offset: where.offset, expected, found })
      }
    }
    if (records.length > 0) {
      yield { file, records, bytesRead: text.bytesRead(offset + at), locate: text.locator(starts) }
    }
    if (isLast && state !== afterArray) {
      throw new FormatError({
        file,
        offset: place(offset + bytes.length).offset,
        expected: "']' at the end of the array",
        found: 'the end of the file',
      })
    }
  }
}

const comma = 0x2c
const quote = 0x22
const backslash = 0x5c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Where the element that starts at `start` ends (exclusive), or -1 when it goes on beyond `bytes`. */
function elementEnd(bytes: Buffer, start: number): number {
  const length = bytes.length
  let depth = 0
  for (let i = start; i < length; i++) {
    const byte = bytes[i]
    if (byte === quote) {
      for (i++; i < length && bytes[i] !== quote; i++) if (bytes[i] === backslash) i++
      if (i >= length) return -1
      if (depth === 0) return i + 1
    } else if (byte === openBrace || byte === openBracket) {
      depth++
    } else if (byte === closeBrace || byte === closeBracket) {
      if (depth === 0) return i
      if (--depth === 0) return i + 1
    } else if (depth === 0 && (byte === comma || isBlank(byte))) {
      return i
    }
  }
  return -1
}
