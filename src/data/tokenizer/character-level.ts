import { FormatError } from '../../errors.ts'
import { characterAdjacency } from './adjacency.ts'
import type { BpeModel } from './bpe-model.ts'
import { type EncodingBuffers, type PieceEncoder, pairAt, reserveIds } from './encoding-buffers.ts'
import { createMerge } from './merge.ts'
import { createMergeTable } from './merge-table.ts'
import { createWordCache } from './word-cache.ts'

/** Encodes pieces with a model whose symbols are characters, as sentencepiece's models have them. */
export function createCharacterEncoder(model: BpeModel, buffers: EncodingBuffers): PieceEncoder {
  const merge = createMerge(createMergeTable(model.merges))
  const idOf = characterIds(model)
  const bytesOf = byteTokens(model)
  const parts = createWordCache(buffers)
  const mayMeet = characterAdjacency(model.vocab.keys())
  // A character without a token can be cut off only if what it becomes never merges and never joins its neighbour.
  const areUnknownApart = bytesOf.isComplete && !bytesOf.areMerged
  const firstPartial = model.partial?.firstId ?? Number.POSITIVE_INFINITY
  const isToken = (codePoint: number) => {
    const id = idOf(codePoint)
    return id >= 0 && id < firstPartial
  }
  const unkId = model.unkToken === undefined ? undefined : model.vocab.get(model.unkToken)
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
      const bytes = model.byteFallback ? bytesOf.ids(codePoint) : undefined
      if (bytes) {
        // An unknown character that waits here comes after these bytes. Hugging Face tokenizers do it so (merge_word).
        for (const byte of bytes) symbols[count++] = byte
      } else if (model.unkToken !== undefined) {
        if (unkId === undefined) {
          throw new FormatError({
            file: model.file,
            expected: `unk_token ${model.unkToken} in the vocabulary`,
            found: 'no such token',
          })
        }
        if (pendingUnknowns > 0 && !model.fuseUnk) flush()
        pendingUnknowns = 1
      }
    }
    flush()
    return count
  }

  // Partial characters that stayed apart are unknown only now, and join the unknown ones beside them.
  const isAfterUnknown = (firstId: number) =>
    model.partial !== undefined &&
    model.fuseUnk &&
    buffers.length > firstId &&
    buffers.ids[buffers.length - 1] === unkId

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
        const bytes = model.byteFallback
          ? bytesOf.ids(model.partial?.codePoints[id - firstPartial] as number)
          : undefined
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

  if (!model.ignoreMerges) return encodeParts
  let longest = 0
  for (const token of model.vocab.keys()) longest = Math.max(longest, token.length)
  return (start, end) => {
    const isShort = end - start <= longest
    const whole = isShort ? model.vocab.get(String.fromCharCode(...buffers.units.subarray(start, end))) : undefined
    if (whole === undefined) return encodeParts(start, end)
    reserveIds(buffers, 1)
    buffers.ids[buffers.length++] = whole
  }
}

function characterIds({ vocab }: BpeModel): (codePoint: number) => number {
  const basic = new Int32Array(0x10000).fill(-1)
  const others = new Map<number, number>()
  for (const [token, id] of vocab) {
    const codePoint = token.codePointAt(0) ?? 0
    if (token.length !== (codePoint < 0x10000 ? 1 : 2)) continue
    if (codePoint < 0x10000) basic[codePoint] = id
    else others.set(codePoint, id)
  }
  return codePoint => (codePoint < 0x10000 ? (basic[codePoint] as number) : (others.get(codePoint) ?? -1))
}

/** The tokens `<0x00>` to `<0xFF>` that a character without a token of its own may become. */
function byteTokens({ vocab, merges, byteFallback }: BpeModel) {
  const tokens = Array.from({ length: 256 }, (_, byte) =>
    vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
  )
  const set = new Set(tokens)
  return {
    isComplete: byteFallback && !set.has(undefined),
    areMerged: merges.pairs.some((id, i) => i % 3 < 2 && set.has(id)),
    ids(codePoint: number): readonly number[] | undefined {
      const ids = [...Buffer.from(String.fromCodePoint(codePoint), 'utf8')].map(byte => tokens[byte])
      return ids.includes(undefined) ? undefined : (ids as number[])
    },
  }
}
