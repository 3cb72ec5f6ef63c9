import { isUtf8 } from 'node:buffer'
import { closeSync, openSync, readSync } from 'node:fs'
import { FormatError } from '../errors.ts'
import type { DataRecord } from './record-batch.ts'

/** Some bytes of a file, from a row's first byte on. */
export interface Chunk {
  readonly bytes: Buffer
  /** Where `bytes` starts in the file. */
  readonly offset: number
  readonly isLast: boolean
}

/** Says how many bytes of a chunk are done with; the next chunk starts with the rest. */
export type Chunks = AsyncGenerator<Chunk, void, number>

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
