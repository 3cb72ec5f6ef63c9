// Ids of a text for a model whose symbols are characters. As src/data/tokenizer/character-level.ts.
import { charactersMeet, isHigh, pairAt, unitAt } from './characters'
import { merge } from './merge'
import { mostSymbols, out, partsAt, push, symbolsAt } from './region'
import { areUnknownApart, basicIds, byteIds, fuseUnk, hasUnk, otherCount, otherIds, unkId } from './tables'
import { hashOf, keep, longestKey, recall } from './word-cache'

/** False when the text is left to the host. */
export function encodeCharacters(start: usize, end: usize): bool {
  let part = start
  let previous: u32 = 0
  for (let i = start; i < end; i += 2) {
    const unit = unitAt(i)
    const isPair = isHigh(unit)
    const codePoint = isPair ? pairAt(i) : unit
    if (i > start && !charactersMeet(previous, codePoint)) {
      if (areUnknownApart || (idOf(previous) >= 0 && idOf(codePoint) >= 0)) {
        if (!encodePart(part, i)) return false
        part = i
      }
    }
    previous = codePoint
    if (isPair) i += 2
  }
  return part == end || encodePart(part, end)
}

// @ts-ignore: decorator
@inline
function idOf(codePoint: u32): i32 {
  return codePoint < 0x10000 ? load<i32>(basicIds + (<usize>codePoint << 2)) : otherIdOf(codePoint)
}

/** Among pairs of code point and id, in the order of code points. */
function otherIdOf(codePoint: u32): i32 {
  let low = 0
  let high = otherCount
  while (low < high) {
    const middle = (low + high) >> 1
    const at = otherIds + (<usize>middle << 3)
    const found = load<u32>(at)
    if (found == codePoint) return load<i32>(at, 4)
    if (found < codePoint) low = middle + 1
    else high = middle
  }
  return -1
}

function encodePart(start: usize, end: usize): bool {
  const bytes = <i32>(end - start)
  const isShort = bytes <= longestKey
  const hash = isShort ? hashOf(start, bytes) : 0
  if (isShort && recall(partsAt, start, bytes, hash)) return true
  const first = out
  const count = readSymbols(start, end)
  if (count < 0) return false
  const left = merge(count)
  for (let i = 0; i < left; i++) push(load<i32>(symbolsAt + (<usize>i << 2)))
  if (isShort) keep(partsAt, start, bytes, hash, first)
  return true
}

/** How many symbols there are, or -1 when they are too many or the model has none for a character. */
function readSymbols(start: usize, end: usize): i32 {
  const limit = symbolsAt + 4 * <usize>(mostSymbols - 8)
  let to = symbolsAt
  let isPending = false
  for (let i = start; i < end; i += 2) {
    if (to > limit) return -1
    const unit = unitAt(i)
    const isPair = isHigh(unit)
    const codePoint = isPair ? pairAt(i) : unit
    if (isPair) i += 2
    const id = idOf(codePoint)
    if (id >= 0) {
      if (isPending) to = pushSymbol(to, unkId)
      isPending = false
      to = pushSymbol(to, id)
      continue
    }
    const after = pushBytes(to, codePoint)
    if (after != to) {
      // An unknown character that waits comes after these bytes.
      to = after
    } else if (hasUnk) {
      if (unkId < 0) return -1
      if (isPending && !fuseUnk) to = pushSymbol(to, unkId)
      isPending = true
    }
  }
  if (isPending) to = pushSymbol(to, unkId)
  return <i32>((to - symbolsAt) >> 2)
}

// @ts-ignore: decorator
@inline
function pushSymbol(to: usize, id: i32): usize {
  store<i32>(to, id)
  return to + 4
}

/** Adds the ids of the character's bytes, where all of them are tokens; else returns `to` as it is. */
function pushBytes(to: usize, codePoint: u32): usize {
  if (byteIds == 0) return to
  let at = to
  if (codePoint < 0x80) {
    at = pushSymbol(at, byteId(codePoint))
  } else if (codePoint < 0x800) {
    at = pushSymbol(at, byteId(0xc0 | (codePoint >> 6)))
  } else if (codePoint < 0x10000) {
    at = pushSymbol(at, byteId(0xe0 | (codePoint >> 12)))
    at = pushSymbol(at, byteId(0x80 | ((codePoint >> 6) & 0x3f)))
  } else {
    at = pushSymbol(at, byteId(0xf0 | (codePoint >> 18)))
    at = pushSymbol(at, byteId(0x80 | ((codePoint >> 12) & 0x3f)))
    at = pushSymbol(at, byteId(0x80 | ((codePoint >> 6) & 0x3f)))
  }
  if (codePoint >= 0x80) at = pushSymbol(at, byteId(0x80 | (codePoint & 0x3f)))
  for (let i = to; i < at; i += 4) if (load<i32>(i) < 0) return to
  return at
}

// @ts-ignore: decorator
@inline
function byteId(byte: u32): i32 {
  return load<i32>(byteIds + (<usize>byte << 2))
}
