// The vocabulary and the merges of a BPE `tokenizer.json`: from its bytes, behind which stands a zero, to numbers.
import { at, byteHere, readString, startAt, take } from './json'
import { isEntry, slotOf } from './token-table'

let pool: usize = 0
let starts: usize = 0
let ids: usize = 0
let slots: usize = 0
let mask: u32 = 0

/** Tokens that `scanVocabulary` found. */
export let tokens = 0
/** Merges that `scanMerges` found. */
export let merges = 0

/**
 * Reads the object of tokens and ids at `from`: the tokens' units to `poolAt`, one behind the other, the unit at which
 * each starts to `startsAt`, with one more at the end, the ids to `idsAt`. `taken` are as many zero bytes as there may
 * be ids. Returns where the object ends; 0 when it is left to the host.
 */
export function scanVocabulary(
  from: usize, poolAt: usize, startsAt: usize, idsAt: usize, taken: usize, idLimit: i32,
): usize {
  pool = poolAt
  starts = startsAt
  ids = idsAt
  tokens = 0
  startAt(from)
  if (!take(0x7b)) return 0
  let end = pool
  do {
    skipSpace()
    if (!take(0x22)) return 0
    end = readString(end)
    if (end == 0) return 0
    skipSpace()
    if (!take(0x3a)) return 0
    skipSpace()
    const id = readId(idLimit)
    if (id < 0 || load<u8>(taken + id) != 0) return 0
    store<u8>(taken + id, 1)
    store<i32>(ids + (<usize>tokens << 2), id)
    tokens++
    store<i32>(starts + (<usize>tokens << 2), <i32>((end - pool) >> 1))
    skipSpace()
  } while (take(0x2c))
  return take(0x7d) ? at : 0
}

/**
 * Fills the slots of a token table, zeros, one more than the mask; `scanMerges` then finds its tokens there. Of equal
 * tokens the first is found; false when there are such.
 */
export function indexTokens(poolAt: usize, startsAt: usize, count: i32, slotsAt: usize, slotMask: u32): bool {
  pool = poolAt
  starts = startsAt
  tokens = count
  slots = slotsAt
  mask = slotMask
  let areDistinct = true
  for (let entry = 0; entry < count; entry++) {
    const slot = find(textAt(entry), textAt(entry + 1))
    if (load<i32>(slot) == 0) store<i32>(slot, entry + 1)
    else areDistinct = false
  }
  return areDistinct
}

/**
 * Reads the list of merges at `from`, `"a b"` or `["a", "b"]` each, to `pairs`: ids of left, right and result.
 * `units` has room for one string. Returns where the list ends; 0 when it is left to the host, or one of the ids does
 * not exist.
 */
export function scanMerges(from: usize, pairs: usize, units: usize): usize {
  merges = 0
  startAt(from)
  if (!take(0x5b)) return 0
  skipSpace()
  if (take(0x5d)) return at
  let result = -1
  do {
    skipSpace()
    let split = units
    let end = units
    if (take(0x22)) {
      end = readString(units)
      if (end == 0) return 0
      while (split < end && load<u16>(split) != 0x20) split += 2
      if (split == end) return 0
      // The right part goes behind the left one: their units are those of the result.
      end -= 2
      for (let unit = split; unit < end; unit += 2) {
        store<u16>(unit, load<u16>(unit, 2))
        if (load<u16>(unit) == 0x20) return 0
      }
    } else {
      if (!take(0x5b)) return 0
      split = readItem(units)
      if (split == 0 || !take(0x2c)) return 0
      end = readItem(split)
      if (end == 0 || !take(0x5d)) return 0
    }
    const left = entryOf(units, split)
    const right = entryOf(split, end)
    // Merges often come in the order of what they give.
    if (result < 0 || !isToken(result, units, end)) {
      result = result >= 0 && result + 1 < tokens && isToken(result + 1, units, end) ? result + 1 : entryOf(units, end)
    }
    if ((left | right | result) < 0) return 0
    store<i32>(pairs, idOf(left), 0)
    store<i32>(pairs, idOf(right), 4)
    store<i32>(pairs, idOf(result), 8)
    pairs += 12
    merges++
    skipSpace()
  } while (take(0x2c))
  return take(0x5d) ? at : 0
}

/**
 * Fills the slots of a merge table, one more than the mask, of four numbers: left, right, rank, result. Without `ranks`
 * (0) the order of the pairs counts. Of two merges of one pair the later stays.
 */
export function indexMerges(pairs: usize, ranks: usize, count: i32, slotsAt: usize, slotMask: u32): void {
  memory.fill(slotsAt, 0xff, (<usize>slotMask + 1) << 4)
  for (let i = 0; i < count; i++) {
    const left = load<u32>(pairs)
    const right = load<u32>(pairs, 4)
    const wanted = (<u64>right << 32) | <u64>left
    let slot = (left * 0x9e3779b1) ^ (right * 0x85ebca6b)
    slot = (slot ^ (slot >> 15)) & slotMask
    let place = slotsAt + (<usize>slot << 4)
    while (load<i32>(place) != -1 && load<u64>(place) != wanted) {
      slot = (slot + 1) & slotMask
      place = slotsAt + (<usize>slot << 4)
    }
    store<u64>(place, wanted)
    store<i32>(place, ranks == 0 ? i : load<i32>(ranks + (<usize>i << 2)), 8)
    store<i32>(place, load<i32>(pairs, 8), 12)
    pairs += 12
  }
}

/** Reads the string that comes next to `to`, and passes over the space behind it; returns where its units end, or 0. */
function readItem(to: usize): usize {
  skipSpace()
  const end = take(0x22) ? readString(to) : 0
  skipSpace()
  return end
}

function textAt(entry: i32): usize {
  return pool + (<usize>load<i32>(starts + (<usize>entry << 2)) << 1)
}

function idOf(entry: i32): i32 {
  return load<i32>(ids + (<usize>entry << 2))
}

function entryOf(start: usize, end: usize): i32 {
  return load<i32>(find(start, end)) - 1
}

function find(start: usize, end: usize): usize {
  return slotOf(start, end, slots, mask, starts, pool)
}

function isToken(entry: i32, start: usize, end: usize): bool {
  return isEntry(entry, start, end, starts, pool)
}

function skipSpace(): void {
  let byte = byteHere()
  while (byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09) {
    take(byte)
    byte = byteHere()
  }
}

/** A number below the limit; -1 for any other. What may follow it, the caller checks. */
function readId(limit: i32): i32 {
  const first = byteHere()
  let id = 0
  let digits = 0
  for (let byte = first; byte >= 0x30 && byte <= 0x39 && id < limit; byte = byteHere()) {
    id = 10 * id + <i32>(byte - 0x30)
    digits++
    take(byte)
  }
  return digits == 0 || id >= limit || (first == 0x30 && digits > 1) ? -1 : id
}
