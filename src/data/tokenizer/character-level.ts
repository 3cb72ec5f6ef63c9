import { FormatError } from '../../errors.ts'
import { type CharacterAdjacency, characterAdjacency, characterMeeting } from './adjacency.ts'
import type { BpeModel } from './bpe-model.ts'
import { type EncodingBuffers, isPair, type PieceEncoder, pairAt, reserveIds } from './encoding-buffers.ts'
import { createMerge } from './merge.ts'
import { createMergeSlots, createMergeTable } from './merge-table.ts'
import { createTokenFinder, type TokenTable } from './token-table.ts'
import { tokenList, tokenTable } from './vocabulary.ts'
import { createWordCache } from './word-cache.ts'

/** What an encoder of characters looks up. Plain data, of which threads share the numbers. */
export interface CharacterTables {
  readonly kind: 'characters'
  readonly file: string
  readonly mergeSlots: Int32Array
  readonly adjacency: CharacterAdjacency
  /** Id of each character up to U+FFFF, or -1, and those of the others. */
  readonly basicIds: Int32Array
  readonly otherIds: ReadonlyMap<number, number>
  /** Ids of the tokens `<0x00>` to `<0xFF>` that a character without a token of its own may become, or -1. */
  readonly byteIds?: Int32Array | undefined
  /** Whether such a token may merge with others. */
  readonly areBytesMerged: boolean
  readonly unkToken?: string | undefined
  readonly unkId?: number | undefined
  readonly fuseUnk: boolean
  readonly partial?: BpeModel['partial']
  /** Tokens by their text, where a piece that is one as a whole is that token. */
  readonly wholes?: TokenTable | undefined
}

/** Tables for a model whose symbols are characters, as sentencepiece's models have them. */
export function characterTables(model: BpeModel): CharacterTables {
  const { file, memory, vocab, merges, unkToken, fuseUnk, byteFallback, partial } = model
  const byteIds = Int32Array.from(
    { length: 256 },
    (_, byte) => vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`) ?? -1,
  )
  const bytes = new Set(byteIds)
  bytes.delete(-1)
  return {
    ...{ kind: 'characters', file, mergeSlots: createMergeSlots(model), ...characterIds(model) },
    ...{ adjacency: characterAdjacency(tokenList(vocab), memory), byteIds: byteFallback ? byteIds : undefined },
    areBytesMerged: merges.pairs.some((id, i) => i % 3 < 2 && bytes.has(id)),
    ...{ unkToken, unkId: unkToken === undefined ? undefined : vocab.get(unkToken), fuseUnk, partial },
    wholes: model.ignoreMerges ? tokenTable(vocab, memory) : undefined,
  }
}

/** Encodes pieces with a model whose symbols are characters, as sentencepiece's models have them. */
export function createCharacterEncoder(tables: CharacterTables, buffers: EncodingBuffers): PieceEncoder {
  const { file, basicIds, otherIds, byteIds, unkToken, unkId, fuseUnk, partial } = tables
  const merge = createMerge(createMergeTable(tables.mergeSlots))
  const parts = createWordCache(buffers)
  const mayMeet = characterMeeting(tables.adjacency)
  // A character without a token can be cut off only if what it becomes never merges and never joins its neighbour.
  const areUnknownApart = byteIds !== undefined && !byteIds.includes(-1) && !tables.areBytesMerged
  const firstPartial = partial?.firstId ?? Number.POSITIVE_INFINITY
  const idOf = (codePoint: number) =>
    codePoint < 0x10000 ? (basicIds[codePoint] as number) : (otherIds.get(codePoint) ?? -1)
  const isToken = (codePoint: number) => {
    const id = idOf(codePoint)
    return id >= 0 && id < firstPartial
  }
  const bytesOf = (codePoint: number): readonly number[] | undefined => {
    if (!byteIds) return undefined
    const ids = Array.from(Buffer.from(String.fromCodePoint(codePoint), 'utf8'), byte => byteIds[byte] as number)
    return ids.includes(-1) ? undefined : ids
  }
  let symbols = new Int32Array(1 << 10)

  const readSymbols = (start: number, end: number) => {
    const { units } = buffers
    let count = 0
    let pendingUnknowns = 0
    const flush = () => {
      for (; pendingUnknowns > 0; pendingUnknowns--) symbols[count++] = unkId as number
    }
    for (let i = start; i < end; i++) {
      const unit = units[i] as number
      const codePoint = unit >= 0xd800 && unit < 0xdc00 ? pairAt(units, i++) : unit
      const id = idOf(codePoint)
      if (id >= 0) {
        flush()
        symbols[count++] = id
        continue
      }
      const bytes = bytesOf(codePoint)
      if (bytes) {
        // An unknown character that waits here comes after these bytes. Hugging Face tokenizers do it so (merge_word).
        for (const byte of bytes) symbols[count++] = byte
      } else if (unkToken !== undefined) {
        if (unkId === undefined) {
          throw new FormatError({
            file,
            expected: `unk_token ${unkToken} in the vocabulary`,
            found: 'no such token',
          })
        }
        if (pendingUnknowns > 0 && !fuseUnk) flush()
        pendingUnknowns = 1
      }
    }
    flush()
    return count
  }

  // Partial characters that stayed apart are unknown only now, and join the unknown ones beside them.
  const isAfterUnknown = (firstId: number) =>
    partial !== undefined && fuseUnk && buffers.length > firstId && buffers.ids[buffers.length - 1] === unkId

  const encodePart = (start: number, end: number) => {
    if (parts.recall(start, end)) return
    if (symbols.length < 4 * (end - start)) symbols = new Int32Array(8 * (end - start))
    const firstId = buffers.length
    const count = merge(symbols, readSymbols(start, end))
    reserveIds(buffers, 4 * count)
    const { ids } = buffers
    for (let i = 0; i < count; i++) {
      const id = symbols[i] as number
      if (id < firstPartial) {
        if (id === unkId && isAfterUnknown(firstId)) continue
        ids[buffers.length++] = id
      } else {
        const bytes = bytesOf(partial?.codePoints[id - firstPartial] as number)
        if (bytes) for (const byte of bytes) ids[buffers.length++] = byte
        else if (unkId !== undefined && !isAfterUnknown(firstId)) ids[buffers.length++] = unkId
      }
    }
    parts.keep(start, end, firstId)
  }

  const encodeParts = (start: number, end: number) => {
    const { units } = buffers
    let part = start
    let previous = 0
    for (let i = start; i < end; i++) {
      const unit = units[i] as number
      const isPair = unit >= 0xd800 && unit < 0xdc00
      const codePoint = isPair ? pairAt(units, i) : unit
      if (i > start && !mayMeet(previous, codePoint)) {
        if (areUnknownApart || (isToken(previous) && isToken(codePoint))) {
          encodePart(part, i)
          part = i
        }
      }
      previous = codePoint
      if (isPair) i++
    }
    if (part < end) encodePart(part, end)
  }

  if (!tables.wholes) return encodeParts
  const findWhole = createTokenFinder(tables.wholes)
  return (start, end) => {
    const whole = findWhole(buffers.units, start, end)
    if (whole < 0) return encodeParts(start, end)
    reserveIds(buffers, 1)
    buffers.ids[buffers.length++] = whole
  }
}

function characterIds({ vocab, memory }: BpeModel): Pick<CharacterTables, 'basicIds' | 'otherIds'> {
  const { starts, ids, pool } = tokenList(vocab)
  const basicIds = memory.ints(0x10000).fill(-1)
  const otherIds = new Map<number, number>()
  for (let entry = 0; entry < ids.length; entry++) {
    const [start, end] = [starts[entry] as number, starts[entry + 1] as number]
    if (end - start === 1) basicIds[pool[start] as number] = ids[entry] as number
    else if (end - start === 2 && isPair(pool, start)) otherIds.set(pairAt(pool, start), ids[entry] as number)
  }
  return { basicIds, otherIds }
}
