import { isUtf8 } from 'node:buffer'
import { createAdjacency, createAdjacencyBits } from './adjacency.ts'
import type { BpeModel } from './bpe-model.ts'
import { byteCharacters, bytesOfTokens, type TokenBytes, tokenKinds } from './byte-alphabet.ts'
import { type CharacterTables, characterTables, createCharacterEncoder } from './character-level.ts'
import { createBuffers, type EncodingBuffers, type PieceEncoder, pairAt, reserveIds } from './encoding-buffers.ts'
import { createMerge } from './merge.ts'
import { createMergeSlots, createMergeTable } from './merge-table.ts'
import type { TableMemory } from './table-memory.ts'
import { createTokenFinder, indexTokens, type TokenList, type TokenTable } from './token-table.ts'
import { tokenList } from './vocabulary.ts'
import { createWordCache } from './word-cache.ts'

/** What a byte-level encoder looks up, as plain numbers: threads share them. */
export type ByteLevelTables =
  | {
      readonly kind: 'bytes'
      /** Id of each byte's token. */
      readonly byteIds: Int32Array
      readonly mergeSlots: Int32Array
      readonly adjacencyBits: Int32Array
      /** Tokens by their text, where a piece that is one as a whole is that token. */
      readonly wholes?: TokenTable | undefined
    }
  /** The vocabulary lacks tokens for some bytes. */
  | { readonly kind: 'incompleteBytes'; readonly characters: CharacterTables }

/** Tables for a model whose symbols are the bytes of UTF-8. */
export function byteLevelTables(model: BpeModel): ByteLevelTables {
  const byteIds = Int32Array.from(byteCharacters, character => model.vocab.get(character) ?? -1)
  if (byteIds.includes(-1)) return { kind: 'incompleteBytes', characters: characterTables(model) }
  const tokens = tokenList(model.vocab)
  const known = { ...tokens, ...bytesOfTokens(tokens) }
  const { memory } = model
  return {
    ...{ kind: 'bytes', byteIds, mergeSlots: createMergeSlots(model), adjacencyBits: byteAdjacency(known, memory) },
    ...(model.ignoreMerges && { wholes: textTokens(known, memory) }),
  }
}

/** Encodes pieces with a model whose symbols are the bytes of UTF-8. */
export function createByteLevelEncoder(tables: ByteLevelTables, buffers: EncodingBuffers): PieceEncoder {
  if (tables.kind === 'incompleteBytes') return createIncompleteEncoder(tables.characters, buffers)
  const { byteIds } = tables
  const merge = createMerge(createMergeTable(tables.mergeSlots))
  const mayMeet = byteMeeting(tables.adjacencyBits)
  const pieces = createWordCache(buffers)
  // A part of a piece must not be taken for a whole token where the model says so of pieces only.
  const parts = tables.wholes ? createWordCache(buffers) : pieces
  const findWhole = tables.wholes && createTokenFinder(tables.wholes)
  let symbols = new Int32Array(1 << 10)

  const mergePart = (start: number, end: number) => {
    if (symbols.length < 3 * (end - start)) symbols = new Int32Array(6 * (end - start))
    const { units } = buffers
    let count = 0
    for (let i = start; i < end; i++) {
      const unit = units[i] as number
      if (unit < 0x80) {
        symbols[count++] = byteIds[unit] as number
      } else if (unit < 0x800) {
        symbols[count++] = byteIds[0xc0 | (unit >> 6)] as number
        symbols[count++] = byteIds[0x80 | (unit & 0x3f)] as number
      } else if (unit < 0xd800 || unit >= 0xe000) {
        symbols[count++] = byteIds[0xe0 | (unit >> 12)] as number
        symbols[count++] = byteIds[0x80 | ((unit >> 6) & 0x3f)] as number
        symbols[count++] = byteIds[0x80 | (unit & 0x3f)] as number
      } else {
        const codePoint = pairAt(units, i++)
        symbols[count++] = byteIds[0xf0 | (codePoint >> 18)] as number
        symbols[count++] = byteIds[0x80 | ((codePoint >> 12) & 0x3f)] as number
        symbols[count++] = byteIds[0x80 | ((codePoint >> 6) & 0x3f)] as number
        symbols[count++] = byteIds[0x80 | (codePoint & 0x3f)] as number
      }
    }
    count = merge(symbols, count)
    reserveIds(buffers, count)
    for (let i = 0; i < count; i++) buffers.ids[buffers.length++] = symbols[i] as number
  }

  const encodePart = (start: number, end: number) => {
    if (parts.recall(start, end)) return
    const firstId = buffers.length
    mergePart(start, end)
    parts.keep(start, end, firstId)
  }

  return (start, end) => {
    if (pieces.recall(start, end)) return
    const firstId = buffers.length
    const whole = findWhole ? findWhole(buffers.units, start, end) : -1
    if (whole >= 0) {
      reserveIds(buffers, 1)
      buffers.ids[buffers.length++] = whole
    } else {
      const { units } = buffers
      let part = start
      let previous = 0
      for (let i = start; i < end; i++) {
        const unit = units[i] as number
        const isPair = unit >= 0xd800 && unit < 0xdc00
        const codePoint = isPair ? pairAt(units, i) : unit
        // Between two ASCII characters the check would cost more than it saves: words are short.
        if (i > start && (previous >= 0x80 || codePoint >= 0x80) && !mayMeet(previous, codePoint)) {
          encodePart(part, i)
          part = i
        }
        previous = codePoint
        if (isPair) i++
      }
      if (part > start) encodePart(part, end)
      else mergePart(start, end)
    }
    pieces.keep(start, end, firstId)
  }
}

/**
 * Whether any token holds the end of one character next to the start of another. Byte-level tokens begin and end
 * within characters, so the end may be the last 1 to 3 bytes, and the start the first 1 to 3.
 */
function byteAdjacency({ starts, bytes, kinds }: TokenList & TokenBytes, memory: TableMemory): Int32Array {
  const bits = createAdjacencyBits(memory)
  const adjacency = createAdjacency(bits)
  for (let entry = 0; entry < kinds.length; entry++) {
    // Nobody asks for two ASCII characters.
    if (kinds[entry] !== tokenKinds.beyondAscii) continue
    const [start, stop] = [starts[entry] as number, starts[entry + 1] as number]
    for (let i = start + 1; i < stop; i++) {
      const left = endKey(bytes, start, i)
      const right = startKey(bytes, i, stop)
      if (left >= 0 && right >= 0) adjacency.add(left, right)
    }
  }
  return bits
}

function byteMeeting(adjacencyBits: Int32Array): (left: number, right: number) => boolean {
  const adjacency = createAdjacency(adjacencyBits)
  return (left, right) => {
    const [leftLength, rightLength] = [utf8Length(left), utf8Length(right)]
    for (let i = 0; i < leftLength; i++) {
      const end = i === 0 ? left : (i << 24) | (left & ((1 << (6 * i)) - 1))
      for (let j = 0; j < rightLength; j++) {
        const start = j === 0 ? right : ((4 * rightLength + j) << 24) | (right >> (6 * (rightLength - j)))
        if (adjacency.mayMeet(end, start)) return true
      }
    }
    return false
  }
}

/** Key of the character that ends before `end`: its code point, or the number and bits of its last bytes. -1: no text. */
function endKey(bytes: Uint8Array, start: number, end: number): number {
  let bits = 0
  for (let count = 1; count <= 4; count++) {
    if (end - count < start) return ((count - 1) << 24) | bits
    const byte = bytes[end - count] as number
    if ((byte & 0xc0) !== 0x80) {
      if (leadLength(byte) !== count) return -1
      return bits | (leadBits(byte, count) << (6 * (count - 1)))
    }
    bits |= (byte & 0x3f) << (6 * (count - 1))
  }
  return -1
}

/** Key of the character that starts at `start`: its code point, or its length, and number and bits of its first bytes. */
function startKey(bytes: Uint8Array, start: number, stop: number): number {
  const lead = bytes[start] as number
  const length = leadLength(lead)
  if (length === 0) return -1
  let bits = leadBits(lead, length)
  for (let count = 1; count < length; count++) {
    if (start + count >= stop) return ((4 * length + count) << 24) | bits
    const byte = bytes[start + count] as number
    if ((byte & 0xc0) !== 0x80) return -1
    bits = (bits << 6) | (byte & 0x3f)
  }
  return bits
}

function leadLength(byte: number): number {
  if (byte < 0x80) return 1
  if (byte < 0xc0) return 0
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf8 ? 4 : 0
}

function leadBits(byte: number, length: number): number {
  return length === 1 ? byte : byte & (0x7f >> length)
}

function utf8Length(codePoint: number): number {
  return codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4
}

/** The tokens that are text by themselves. Takes the bytes apart. */
function textTokens(tokens: TokenList & TokenBytes, memory: TableMemory): TokenTable {
  const { bytes, kinds } = tokens
  const [starts, ids] = [memory.ints(kinds.length + 1), memory.ints(kinds.length)]
  let count = 0
  let end = 0
  for (let entry = 0; entry < kinds.length; entry++) {
    const [start, stop] = [tokens.starts[entry] as number, tokens.starts[entry + 1] as number]
    if (kinds[entry] === tokenKinds.otherAlphabet) continue
    const units = kinds[entry] === tokenKinds.ascii ? stop - start : unitCount(bytes, start, stop)
    // Half a character: no piece of text is that.
    if (units < 0) continue
    bytes.copyWithin(end, start, stop)
    end += stop - start
    ids[count++] = tokens.ids[entry] as number
    starts[count] = (starts[count - 1] as number) + units
  }
  const pool = memory.units(starts[count] as number)
  Buffer.from(pool.buffer, pool.byteOffset, pool.byteLength).write(bytes.toString('utf8', 0, end), 'utf16le')
  return indexTokens({ pool, starts: starts.subarray(0, count + 1), ids: ids.subarray(0, count) }, memory)
}

/** How many UTF-16 units the bytes are; -1 when they are no text. */
function unitCount(bytes: Buffer, start: number, stop: number): number {
  if (!isUtf8(bytes.subarray(start, stop))) return -1
  let units = 0
  for (let i = start; i < stop; i++) {
    const byte = bytes[i] as number
    if ((byte & 0xc0) !== 0x80) units += byte < 0xf0 ? 1 : 2
  }
  return units
}

/** For vocabularies without a token for each byte: the bytes' characters, encoded as characters with unknown ones. */
function createIncompleteEncoder(tables: CharacterTables, buffers: EncodingBuffers): PieceEncoder {
  const inner = createBuffers()
  const encodeCharacters = createCharacterEncoder(tables, inner)
  return (start, end) => {
    const text = Buffer.from(buffers.units.buffer, 2 * start, 2 * (end - start)).toString('utf16le')
    const bytes = Buffer.from(text, 'utf8')
    if (inner.units.length < bytes.length) inner.units = new Uint16Array(2 * bytes.length)
    bytes.forEach((byte, i) => {
      inner.units[i] = (byteCharacters[byte] as string).charCodeAt(0)
    })
    inner.length = 0
    encodeCharacters(0, bytes.length)
    reserveIds(buffers, inner.length)
    buffers.ids.set(inner.ids.subarray(0, inner.length), buffers.length)
    buffers.length += inner.length
  }
}
