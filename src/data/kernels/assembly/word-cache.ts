// Ids of pieces of text that were encoded before. As src/data/tokenizer/word-cache.ts, whose comments hold here.
import { out, rewind } from './region'

const slotBits: u32 = 18
const slotMask: u32 = (1 << slotBits) - 1
const placeBits: u32 = 22
const placeMask: u32 = (1 << placeBits) - 1
/** Longest piece that is kept, in bytes of its units. */
export const longestKey: i32 = 96
const mostIds: i32 = 255
const slotsFrom: usize = 64
const poolFrom: usize = slotsFrom + (4 << slotBits)
const poolBytes: i32 = 6 << 20

/** Two numbers at the cache's first bytes: entries, and units of the pool that are used. */
// @ts-ignore: decorator
@inline
function entries(cache: usize): i32 {
  return load<i32>(cache)
}

/** Makes a cache of memory that holds nothing but zeros. */
export function startCache(cache: usize): void {
  store<i32>(cache, 0)
  store<i32>(cache, 1, 4)
}

/** A hash of so many bytes of units, at most `longestKey` of them; eight are read at a time. */
// @ts-ignore: decorator
@inline
export function hashOf(at: usize, bytes: i32): u32 {
  let hash: u64 = <u64>bytes
  while (bytes >= 8) {
    hash = (hash ^ load<u64>(at)) * 0x9e3779b97f4a7c15
    hash ^= hash >> 32
    at += 8
    bytes -= 8
  }
  if (bytes > 0) hash = (hash ^ (load<u64>(at) & ((<u64>1 << (<u64>bytes << 3)) - 1))) * 0x9e3779b97f4a7c15
  // Of the last unit of a full eight bytes only the highest bits know: once more, so that all of a slot's do.
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93
  return <u32>(hash ^ (hash >> 32))
}

// @ts-ignore: decorator
@inline
function equal(a: usize, b: usize, bytes: i32): bool {
  while (bytes >= 8) {
    if (load<u64>(a) != load<u64>(b)) return false
    a += 8
    b += 8
    bytes -= 8
  }
  return bytes == 0 || ((load<u64>(a) ^ load<u64>(b)) & ((<u64>1 << (<u64>bytes << 3)) - 1)) == 0
}

/** Address of the slot of the piece; where it is not known, of the empty one where it belongs. */
// @ts-ignore: decorator
@inline
function find(cache: usize, at: usize, bytes: i32, hash: u32): usize {
  const slots = cache + slotsFrom
  const pool = cache + poolFrom
  const tag = hash >> placeBits
  let slot = hash & slotMask
  for (;;) {
    const held = load<u32>(slots + (<usize>slot << 2))
    if (held == 0) break
    if (held >> placeBits == tag) {
      const entry = pool + (<usize>(held & placeMask) << 1)
      if (<i32>load<u8>(entry, 1) << 1 == bytes && equal(entry + 2, at, bytes)) break
    }
    slot = (slot + 1) & slotMask
  }
  return slots + (<usize>slot << 2)
}

/** Appends the ids of the piece when they are known; false when they are not known. */
// @ts-ignore: decorator
@inline
export function recall(cache: usize, at: usize, bytes: i32, hash: u32): bool {
  const held = load<u32>(find(cache, at, bytes, hash))
  if (held == 0) return false
  const entry = cache + poolFrom + (<usize>(held & placeMask) << 1)
  let count = <i32>load<u8>(entry)
  let from = entry + 2 + bytes
  let to = out
  rewind(to + (<usize>count << 2))
  for (; count > 0; count--) {
    store<u32>(to, load<u32>(from))
    from += 4
    to += 4
  }
  return true
}

/** Keeps the ids from `first` on for a piece that `recall` did not know. */
export function keep(cache: usize, at: usize, bytes: i32, hash: u32, first: usize): void {
  const count = <i32>((out - first) >> 2)
  if (count > mostIds) return
  const size = 2 + bytes + 4 * count
  let used = load<i32>(cache, 4)
  if (entries(cache) > 1 << (slotBits - 1) || 2 * used + size > poolBytes) {
    // Starting afresh is cheaper than choosing what to forget.
    memory.fill(cache + slotsFrom, 0, 4 << slotBits)
    startCache(cache)
    used = 1
  }
  store<u32>(find(cache, at, bytes, hash), (hash >> placeBits << placeBits) | used)
  let to = cache + poolFrom + (<usize>used << 1)
  store<u16>(to, (bytes >> 1 << 8) | count)
  memory.copy(to + 2, at, bytes)
  memory.copy(to + 2 + bytes, first, 4 * count)
  store<i32>(cache, entries(cache) + 1)
  store<i32>(cache, used + (size >> 1), 4)
}
