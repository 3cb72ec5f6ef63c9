import { FormatError } from '../errors.ts'
import { isBlank, type RecordText, tryParseRecord } from './json-record.ts'
import type { Place } from './line-place.ts'
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
    let isCut = false
    for (; at < bytes.length; at++) {
      const byte = bytes[at]
      if (isBlank(byte)) continue
      if (state === beforeArray) state = beforeFirst
      else if (state === afterElement && byte === comma) state = beforeElement
      else if ((state === afterElement || state === beforeFirst) && byte === closeBracket) state = afterArray
      else {
        const stop = elementEnd(bytes, at)
        if (stop < 0 && !isLast) break
        isCut = stop < 0
        const row = { bytes, start: at, stop: isCut ? bytes.length : stop, file, offset: offset + at, place }
        const isExpected = state === beforeFirst || state === beforeElement
        const record = isExpected ? tryParseRecord(row) : () => unexpected(row, state === afterArray)
        if (typeof record === 'function') text.bad.add(record)
        else {
          records.push(record)
          starts.push(row.offset)
        }
        if (state !== afterArray) state = afterElement
        // A bracket that closes nothing goes with the row that is passed over.
        at = isExpected ? row.stop - 1 : Math.max(at, row.stop - 1)
      }
    }
    if (isLast && state !== afterArray && !isCut) text.bad.add(() => unfinished(file, place(offset + bytes.length)))
    const bad = text.bad.take()
    if (records.length > 0 || bad.bad) {
      yield { file, records, ...bad, bytesRead: text.bytesRead(offset + at), locate: text.locator(starts) }
    }
  }
}

function unexpected({ bytes, start, file, offset, place }: RecordText, isBehind: boolean): FormatError {
  const expected = isBehind ? 'nothing after the array' : "',' or ']' after a row"
  const where = place?.(offset)
  const found = `'${String.fromCharCode(bytes[start] ?? 0)}' in ${where?.place}`
  return new FormatError({ file, offset: where?.offset, expected, found })
}

function unfinished(file: string, { offset }: Place): FormatError {
  return new FormatError({ file, offset, expected: "']' at the end of the array", found: 'the end of the file' })
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
