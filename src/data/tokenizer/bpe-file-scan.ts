import { isUtf8 } from 'node:buffer'
import { isBlank } from '../../formats/json-record.ts'
import { type BpeModel, limits } from './bpe-model.ts'
import type { TableMemory } from './table-memory.ts'
import { indexTokens } from './token-table.ts'
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
 * wrong: what that is, the slower way says. The bytes are in `memory`.
 */
export function scanBpeFile(bytes: Buffer, memory: TableMemory): ScannedFile | undefined {
  try {
    return scanFile({ bytes, at: 0 }, memory)
  } catch (error) {
    // A RangeError: the memory has no room for so long a file.
    if (error instanceof NotPlain || error instanceof RangeError) return undefined
    throw error
  }
}

class NotPlain extends Error {}

interface Cursor {
  readonly bytes: Buffer
  at: number
}

function scanFile(cursor: Cursor, memory: TableMemory): ScannedFile {
  const { bytes } = cursor
  const scanner = createScanner(bytes, memory)
  let vocab: Vocabulary | undefined
  let merges: BpeModel['merges'] | undefined
  let rest = ''
  let from = 0
  const read = (to: number) => {
    // The kernel looks at what is left out.
    if (!isUtf8(bytes.subarray(from, to))) throw new NotPlain()
    rest += bytes.toString('utf8', from, to)
  }
  const leaveOut = (empty: string, start: number) => {
    read(start)
    rest += empty
    from = cursor.at
  }
  eachMember(cursor, key => {
    if (key !== 'model') return skipValue(cursor)
    eachMember(cursor, key => {
      const start = cursor.at
      if (key === 'vocab') {
        vocab = scanner.vocabulary(cursor)
        leaveOut('{}', start)
      } else if (key === 'merges' && vocab) {
        merges = scanner.merges(cursor)
        leaveOut('[]', start)
      } else skipValue(cursor)
    })
  })
  if (!vocab || !merges) throw new NotPlain()
  read(bytes.length)
  return { json: parse(rest), vocab, merges }
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

/** Takes the vocabulary and the merges out of a file, with the kernel. */
interface Scanner {
  vocabulary(cursor: Cursor): Vocabulary
  merges(cursor: Cursor): BpeModel['merges']
}

function createScanner(bytes: Uint8Array, memory: TableMemory): Scanner {
  // Of a file so long, not one unit is more than a byte, nor an entry less than five bytes, nor a merge less than six.
  const { length, byteOffset: file } = bytes
  const { kernel } = memory
  const most = Math.ceil(length / 5) + 1
  return {
    vocabulary(cursor) {
      const [pool, starts, ids] = [memory.units(length), memory.ints(most), memory.ints(most)]
      const places = [pool.byteOffset, starts.byteOffset, ids.byteOffset, memory.bytes(limits.id).byteOffset] as const
      const end = kernel.scanVocabulary(file + cursor.at, ...places, limits.id)
      const count = kernel.tokens.value
      if (end === 0 || count > limits.tokens) throw new NotPlain()
      cursor.at = end - file
      const tokens = { pool: pool.subarray(0, starts[count]), starts: starts.subarray(0, count + 1) }
      const table = indexTokens({ ...tokens, ids: ids.subarray(0, count) }, memory)
      if (!table.areDistinct) throw new NotPlain()
      return tableVocabulary(table)
    },
    merges(cursor) {
      const pairs = memory.ints(3 * most)
      const end = kernel.scanMerges(file + cursor.at, pairs.byteOffset, memory.units(length).byteOffset)
      const count = kernel.merges.value
      if (end === 0 || count > limits.merges) throw new NotPlain()
      cursor.at = end - file
      return { count, pairs: pairs.subarray(0, 3 * count) }
    },
  }
}

function parse(json: string) {
  try {
    return JSON.parse(json)
  } catch {
    throw new NotPlain()
  }
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
