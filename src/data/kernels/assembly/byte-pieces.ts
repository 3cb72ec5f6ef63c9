// Ids of a piece for a model whose symbols are the bytes of UTF-8. As src/data/tokenizer/byte-level.ts.
import { bytesMeet, isHigh, pairAt, unitAt } from './characters'
import { merge } from './merge'
import { mostSymbols, out, partsAt, piecesAt, push, symbolsAt } from './region'
import { byteIds, wholeIds, wholeLongest, wholeMask, wholePool, wholeSlots, wholeStarts } from './tables'
import { slotOf } from './token-table'
import { hashOf, keep, longestKey, recall } from './word-cache'

/** False when the piece is left to the host. */
export function encodeBytePiece(start: usize, end: usize): bool {
  const bytes = <i32>(end - start)
  if (bytes > longestKey) return encodeUnknown(start, end)
  const hash = hashOf(start, bytes)
  if (recall(piecesAt, start, bytes, hash)) return true
  const first = out
  if (!encodeUnknown(start, end)) return false
  keep(piecesAt, start, bytes, hash, first)
  return true
}

function encodeUnknown(start: usize, end: usize): bool {
  const whole = wholeSlots == 0 ? -1 : findWhole(start, end)
  if (whole >= 0) {
    push(whole)
    return true
  }
  let part = start
  let previous: u32 = 0
  for (let i = start; i < end; i += 2) {
    const unit = unitAt(i)
    const isPair = isHigh(unit)
    const codePoint = isPair ? pairAt(i) : unit
    // Between two ASCII characters the check would cost more than it saves: words are short.
    if (i > start && (previous >= 0x80 || codePoint >= 0x80) && !bytesMeet(previous, codePoint)) {
      if (!encodePart(part, i)) return false
      part = i
    }
    previous = codePoint
    if (isPair) i += 2
  }
  return part > start ? encodePart(part, end) : mergePart(start, end)
}

function encodePart(start: usize, end: usize): bool {
  // A part of a piece must not be taken for a whole token where the model says so of pieces only.
  const cache = wholeSlots == 0 ? piecesAt : partsAt
  const bytes = <i32>(end - start)
  if (bytes > longestKey) return mergePart(start, end)
  const hash = hashOf(start, bytes)
  if (recall(cache, start, bytes, hash)) return true
  const first = out
  if (!mergePart(start, end)) return false
  keep(cache, start, bytes, hash, first)
  return true
}

// @ts-ignore: decorator
@inline
function pushByte(to: usize, byte: u32): usize {
  store<i32>(to, load<i32>(byteIds + (<usize>byte << 2)))
  return to + 4
}

function mergePart(start: usize, end: usize): bool {
  const limit = symbolsAt + 4 * <usize>(mostSymbols - 4)
  let to = symbolsAt
  for (let i = start; i < end; i += 2) {
    if (to > limit) return false
    const unit = unitAt(i)
    if (unit < 0x80) {
      to = pushByte(to, unit)
    } else if (unit < 0x800) {
      to = pushByte(to, 0xc0 | (unit >> 6))
      to = pushByte(to, 0x80 | (unit & 0x3f))
    } else if (!isHigh(unit)) {
      to = pushByte(to, 0xe0 | (unit >> 12))
      to = pushByte(to, 0x80 | ((unit >> 6) & 0x3f))
      to = pushByte(to, 0x80 | (unit & 0x3f))
    } else {
      const codePoint = pairAt(i)
      i += 2
      to = pushByte(to, 0xf0 | (codePoint >> 18))
      to = pushByte(to, 0x80 | ((codePoint >> 12) & 0x3f))
      to = pushByte(to, 0x80 | ((codePoint >> 6) & 0x3f))
      to = pushByte(to, 0x80 | (codePoint & 0x3f))
    }
  }
  const count = merge(<i32>((to - symbolsAt) >> 2))
  for (let i = 0; i < count; i++) push(load<i32>(symbolsAt + (<usize>i << 2)))
  return true
}

/** Id of the token whose text is the units from `start` to `end`, or -1. As src/data/tokenizer/token-table.ts. */
function findWhole(start: usize, end: usize): i32 {
  if (<i32>((end - start) >> 1) > wholeLongest) return -1
  const entry = load<i32>(slotOf(start, end, wholeSlots, wholeMask, wholeStarts, wholePool)) - 1
  return entry < 0 ? -1 : load<i32>(wholeIds + (<usize>entry << 2))
}
