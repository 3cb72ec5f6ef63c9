// Ids of one text: what stands between added tokens, or, of a line, a whole column.
import { encodeBytePiece } from './byte-pieces'
import { encodeCharacters } from './character-pieces'
import { unitAt } from './characters'
import { idsLeft } from './region'
import { pieceEnd } from './split'
import {
  addPrefixSpace, isCharacters, normalizedTokens, prefix, prefixCount, rawTokens, replaceFrom, replaceTo,
} from './tables'

/** Appends the ids of the units from `start` to `end`, which are normalized but for the last replacement; else false. */
export function encodeNormalized(start: usize, end: usize): bool {
  if (<i32>((end - start) >> 1) * 4 > idsLeft()) return false
  if (replaceFrom >= 0) replaceUnits(start, end)
  if (isCharacters) return encodeCharacters(start, end)
  while (start < end) {
    const stop = pieceEnd(start, end)
    if (!encodeBytePiece(start, stop)) return false
    start = stop
  }
  return true
}

/** The same for text as it came, which is not empty; false, too, where an added token stands in it. */
export function encodeText(start: usize, end: usize): bool {
  if (rawTokens != 0 && hasToken(rawTokens, start, end)) return false
  if (prefixCount > 0) {
    start -= <usize>prefixCount << 1
    memory.copy(start, prefix, <usize>prefixCount << 1)
  }
  if (normalizedTokens != 0) {
    if (replaceFrom >= 0) replaceUnits(start, end)
    if (hasToken(normalizedTokens, start, end)) return false
  }
  if (addPrefixSpace && unitAt(start) != 0x20) {
    start -= 2
    store<u16>(start, 0x20)
  }
  return encodeNormalized(start, end)
}

function replaceUnits(start: usize, end: usize): void {
  const from = i16x8.splat(<i16>replaceFrom)
  const to = i16x8.splat(<i16>replaceTo)
  let at = start
  for (; at + 16 <= end; at += 16) {
    const units = v128.load(at)
    v128.store(at, v128.bitselect(to, units, i16x8.eq(units, from)))
  }
  for (; at < end; at += 2) if (unitAt(at) == <u32>replaceFrom) store<u16>(at, replaceTo)
}

/**
 * Whether one of the tokens stands anywhere in the text. A list of tokens begins with a count of first units and these,
 * at most eight; then 128 bytes that say which ASCII units come second; then the tokens, each an i32 length and its
 * units, filled up to whole fours; then a length of 0.
 */
function hasToken(list: usize, start: usize, end: usize): bool {
  const firsts = load<i32>(list)
  const seconds = list + 20
  let at = start
  while (at < end) {
    const units = v128.load(at)
    let found = i16x8.eq(units, v128.load16_splat(list + 4))
    for (let i = 1; i < firsts; i++) {
      found = v128.or(found, i16x8.eq(units, v128.load16_splat(list + 4 + (<usize>i << 1))))
    }
    let mask = i16x8.bitmask(found)
    while (mask != 0) {
      const place = at + (<usize>ctz(mask) << 1)
      mask &= mask - 1
      if (place >= end) break
      const second = unitAt(place + 2)
      if ((second >= 0x80 || load<u8>(seconds + second) != 0) && standsAt(seconds + 128, place, end)) return true
    }
    at += 16
  }
  return false
}

function standsAt(tokens: usize, at: usize, end: usize): bool {
  for (let length = load<i32>(tokens); length > 0; length = load<i32>(tokens)) {
    tokens += 4
    if (at + (<usize>length << 1) <= end) {
      let i = 0
      while (i < length && load<u16>(tokens + (<usize>i << 1)) == load<u16>(at + (<usize>i << 1))) i++
      if (i == length) return true
    }
    tokens += <usize>((length << 1) + 3) & ~3
  }
  return false
}
