import { isUtf8 } from 'node:buffer'
import { isBlank } from '../../formats/json-record.ts'
import { type BpeModel, limits } from './bpe-model.ts'
import { createTokenFinder, indexTokens } from './token-table.ts'
import { tableVocabulary, type Vocabulary } from './vocabulary.ts'

/** A `tokenizer.json` in parts. */
export interface ScannedFile {
  /** What the file says, but that its vocabulary and its merges are empty. */
  readonly json: { readonly [key: string]: unknown }
  readonly vocab: Vocabulary
  readonly merges: BpeModel['merges']
}

/**
 * Reads the vocabulary and the merges of a BPE `tokenizer.json` from its bytes, in a quarter of the time that the
 * strings and objects of `JSON.parse` take. Undefined for a file of any other kind, and for one in which something is
 * wrong: what that is, the slower way says.
 */
export function scanBpeFile(bytes: Buffer): ScannedFile | undefined {
  if (!isUtf8(bytes)) return undefined
  try {
    return scanFile({ bytes, at: 0 })
  } catch (error) {
    if (error instanceof NotPlain) return undefined
    throw error
  }
}

class NotPlain extends Error {}

interface Cursor {
  readonly bytes: Buffer
  at: number
}

function scanFile(cursor: Cursor): ScannedFile {
  const { bytes } = cursor
  let vocab: Vocabulary | undefined
  let merges: BpeModel['merges'] | undefined
  let rest = ''
  let from = 0
  const leaveOut = (empty: string, start: number) => {
    rest += bytes.toString('utf8', from, start) + empty
    from = cursor.at
  }
  eachMember(cursor, key => {
    if (key !== 'model') return skipValue(cursor)
    eachMember(cursor, key => {
      const start = cursor.at
      if (key === 'vocab') {
        vocab = scanVocabulary(cursor)
        leaveOut('{}', start)
      } else if (key === 'merges' && vocab) {
        merges = scanMerges(cursor, vocab)
        leaveOut('[]', start)
      } else skipValue(cursor)
    })
  })
  if (!vocab || !merges) throw new NotPlain()
  return { json: parse(rest + bytes.toString('utf8', from)), vocab, merges }
}

/** Calls `value` before each value of the object, to go on behind it. No two keys are the same. */
function eachMember(cursor: Cursor, value: (key: string) => void): void {
  const keys = new Set<string>()
  eachItem(cursor, [0x7b, 0x7d], () => {
    const start = cursor.at
    skipString(cursor)
    const key = cursor.bytes.toString('utf8', start + 1, cursor.at - 1)
    if (keys.has(key) || key.includes('\\')) throw new NotPlain()
    keys.add(key)
    take(cursor, 0x3a)
    skipBlanks(cursor)
    value(key)
  })
}

/** Calls `item` before each item between the brackets, to go on behind it. */
function eachItem(cursor: Cursor, [open, close]: readonly [number, number], item: () => void): void {
  take(cursor, open)
  if (next(cursor) === close) {
    cursor.at++
    return
  }
  for (;;) {
    skipBlanks(cursor)
    item()
    if (next(cursor) === close) break
    take(cursor, 0x2c)
  }
  cursor.at++
}

function scanVocabulary(cursor: Cursor): Vocabulary {
  // Of a file so long, not one unit is more than a byte, nor an entry less than five; untouched memory costs nothing.
  const pool = new Uint16Array(cursor.bytes.length)
  const starts = new Int32Array(cursor.bytes.length / 5 + 2)
  const ids = new Int32Array(starts.length)
  const taken = new Uint8Array(limits.id)
  let count = 0
  eachItem(cursor, [0x7b, 0x7d], () => {
    starts[count + 1] = readString(cursor, pool, starts[count] as number)
    take(cursor, 0x3a)
    skipBlanks(cursor)
    const id = readId(cursor)
    if (taken[id] === 1) throw new NotPlain()
    taken[id] = 1
    ids[count++] = id
  })
  if (count === 0 || count > limits.tokens) throw new NotPlain()
  const table = indexTokens({
    pool: pool.subarray(0, starts[count]),
    starts: starts.subarray(0, count + 1),
    ids: ids.subarray(0, count),
  })
  // Of equal texts the first is found: each of these must find itself.
  const find = createTokenFinder(table)
  for (let i = 0; i < count; i++) {
    if (find(table.pool, table.starts[i] as number, table.starts[i + 1] as number) !== ids[i]) throw new NotPlain()
  }
  return tableVocabulary(table)
}

function scanMerges(cursor: Cursor, { find }: Vocabulary): BpeModel['merges'] {
  let pairs = new Int32Array(3 << 16)
  let count = 0
  // Left and right one behind the other: their units are those of the result.
  const units = new Uint16Array(cursor.bytes.length)
  const add = (split: number, end: number) => {
    const at = 3 * count++
    if (at === pairs.length) pairs = withRoom(pairs)
    pairs[at] = find(units, 0, split)
    pairs[at + 1] = find(units, split, end)
    pairs[at + 2] = find(units, 0, end)
    if ((pairs[at] as number) < 0 || (pairs[at + 1] as number) < 0 || (pairs[at + 2] as number) < 0)
      throw new NotPlain()
  }
  eachItem(cursor, [0x5b, 0x5d], () => {
    if (cursor.bytes[cursor.at] === 0x22) {
      const length = readString(cursor, units, 0)
      let split = 0
      while (split < length && units[split] !== 0x20) split++
      if (split === length) throw new NotPlain()
      for (let i = split; i < length - 1; i++) {
        units[i] = units[i + 1] as number
        if (units[i] === 0x20) throw new NotPlain()
      }
      return add(split, length - 1)
    }
    const ends = [0]
    eachItem(cursor, [0x5b, 0x5d], () => ends.push(readString(cursor, units, ends.at(-1) as number)))
    if (ends.length !== 3) throw new NotPlain()
    add(ends[1] as number, ends[2] as number)
  })
  if (count > limits.merges) throw new NotPlain()
  return { count, pairs: pairs.subarray(0, 3 * count) }
}

function withRoom(numbers: Int32Array): Int32Array<ArrayBuffer> {
  const longer = new Int32Array(2 * numbers.length)
  longer.set(numbers)
  return longer
}

/** Puts the units of the string at the cursor into `units` from `from` on, and gives where they end. */
function readString(cursor: Cursor, units: Uint16Array, from: number): number {
  const { bytes } = cursor
  let at = cursor.at
  let to = from
  if (bytes[at++] !== 0x22) throw new NotPlain()
  for (;;) {
    const byte = bytes[at++] as number
    if (byte === 0x22) break
    if (byte === 0x5c) return readEscaped(cursor, units, from)
    if (!(byte >= 0x20)) throw new NotPlain()
    if (byte < 0x80) {
      units[to++] = byte
    } else if (byte < 0xe0) {
      units[to++] = ((byte & 0x1f) << 6) | continued(bytes, at++)
    } else if (byte < 0xf0) {
      units[to++] = ((byte & 0x0f) << 12) | (continued(bytes, at++) << 6) | continued(bytes, at++)
    } else {
      const bits = (continued(bytes, at++) << 12) | (continued(bytes, at++) << 6) | continued(bytes, at++)
      const codePoint = ((byte & 0x07) << 18) | bits
      units[to++] = 0xd7c0 + (codePoint >> 10)
      units[to++] = 0xdc00 | (codePoint & 0x3ff)
    }
  }
  cursor.at = at
  return to
}

function continued(bytes: Buffer, at: number): number {
  return (bytes[at] as number) & 0x3f
}

function readEscaped(cursor: Cursor, units: Uint16Array, to: number): number {
  const start = cursor.at
  skipString(cursor)
  const text: string = parse(cursor.bytes.toString('utf8', start, cursor.at))
  for (let i = 0; i < text.length; i++) units[to++] = text.charCodeAt(i)
  return to
}

function parse(json: string) {
  try {
    return JSON.parse(json)
  } catch {
    throw new NotPlain()
  }
}

function readId(cursor: Cursor): number {
  const { bytes, at: start } = cursor
  let id = 0
  let at = start
  for (let digit = digitAt(bytes, at); digit >= 0 && id < limits.id; digit = digitAt(bytes, ++at)) id = 10 * id + digit
  const isWhole = at > start && id < limits.id && (bytes[start] !== 0x30 || at === start + 1)
  // A point or an exponent would stand where an item ends.
  if (!isWhole) throw new NotPlain()
  cursor.at = at
  return id
}

function digitAt(bytes: Buffer, at: number): number {
  const digit = (bytes[at] as number) - 0x30
  return digit >= 0 && digit <= 9 ? digit : -1
}

/** Goes behind a value whatever it is; whether it is well-formed, who reads the rest will see. */
function skipValue(cursor: Cursor): void {
  const { bytes } = cursor
  let depth = 0
  do {
    const byte = next(cursor)
    if (byte === 0x22) skipString(cursor)
    else if (byte === 0x7b || byte === 0x5b) depth++
    else if (byte === 0x7d || byte === 0x5d) depth--
    if (byte === undefined || depth < 0) throw new NotPlain()
    if (byte !== 0x22) cursor.at++
  } while (depth > 0)
  while (isScalarPart(bytes[cursor.at])) cursor.at++
}

/** Whether a byte can go on with a number, `true`, `false` or `null`. */
function isScalarPart(byte: number | undefined): boolean {
  return byte !== undefined && byte > 0x20 && byte !== 0x2c && byte !== 0x7d && byte !== 0x5d
}

function skipString(cursor: Cursor): void {
  const { bytes } = cursor
  take(cursor, 0x22)
  for (let byte = bytes[cursor.at++]; byte !== 0x22; byte = bytes[cursor.at++]) {
    if (byte === undefined) throw new NotPlain()
    if (byte === 0x5c) cursor.at++
  }
}

/** The next byte that is not blank, not yet taken. */
function next(cursor: Cursor): number | undefined {
  skipBlanks(cursor)
  return cursor.bytes[cursor.at]
}

function take(cursor: Cursor, byte: number): void {
  if (next(cursor) !== byte) throw new NotPlain()
  cursor.at++
}

function skipBlanks(cursor: Cursor): void {
  const { bytes } = cursor
  let at = cursor.at
  while (isBlank(bytes[at])) at++
  cursor.at = at
}
