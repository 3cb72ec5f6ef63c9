import { isUtf8 } from 'node:buffer'
import { FormatError } from '../errors.ts'
import { linePlace, type Place } from './line-place.ts'
import type { DataRecord } from './record-batch.ts'

/** True for the four bytes that JSON counts as white space. */
export function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** One row of JSON text: `bytes` from `start` to `stop`, of which the first is byte `offset` of the file. */
export interface RecordText {
  readonly bytes: Buffer
  readonly start: number
  readonly stop: number
  readonly file: string
  readonly offset: number
  /** Says where a byte stands. Default: the line of the file. */
  readonly place?: ((offset: number) => Place) | undefined
}

/** The row as an object; or, when it is not one, what makes the error, which takes longer than the row itself. */
export function tryParseRecord({
  bytes,
  start,
  stop,
  file,
  offset,
  place,
}: RecordText): DataRecord | (() => FormatError) {
  const locate = place ?? (at => linePlace(file, at))
  const text = bytes.toString('utf8', start, stop)
  // A replacement character may stand in the text itself; only when there is one is the closer look needed.
  if (text.includes('\ufffd') && !isUtf8(bytes.subarray(start, stop))) {
    return () => {
      const at = locate(offset)
      return new FormatError({ file, offset: at.offset, expected: 'UTF-8', found: `other bytes in ${at.place}` })
    }
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    return () => {
      const { message } = cause as SyntaxError
      const character = errorPosition(text, message)
      const at = locate(offset + Buffer.byteLength(text.slice(0, character)))
      const where = `${at.place}, column ${columnOf(text, character)}`
      const what = message.replace(/ in JSON at position.*$/s, '')
      return new FormatError({
        file,
        offset: at.offset,
        expected: 'a JSON object',
        found: `at ${where}: ${what}`,
        cause,
      })
    }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const kind = Array.isArray(value) ? 'an array' : value === null ? 'null' : `a ${typeof value}`
    return () => {
      const at = locate(offset)
      return new FormatError({ file, offset: at.offset, expected: 'a JSON object', found: `${kind} in ${at.place}` })
    }
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
