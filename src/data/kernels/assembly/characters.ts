// Code points in UTF-16 units, and which may stand next to each other in a token (adjacency.ts says why that matters).
import { pairsAt } from './region'
import { adjacencyBits, meetings, numbers } from './tables'

// @ts-ignore: decorator
@inline
export function unitAt(at: usize): u32 {
  return <u32>load<u16>(at)
}

// @ts-ignore: decorator
@inline
export function isHigh(unit: u32): bool {
  return (unit & 0xfc00) == 0xd800
}

/** Code point of the surrogate pair at `at`. */
// @ts-ignore: decorator
@inline
export function pairAt(at: usize): u32 {
  return 0x10000 + ((unitAt(at) & 0x3ff) << 10) + (unitAt(at + 2) & 0x3ff)
}

// @ts-ignore: decorator
@inline
function bloom(left: u32, right: u32): bool {
  let mixed = ((left * 0x9e3779b1) ^ right) * 0x85ebca6b
  mixed ^= mixed >> 15
  const wanted: u32 = (1 << (mixed & 31)) | (1 << ((mixed >> 5) & 31))
  return (load<u32>(adjacencyBits + (<usize>((mixed >> 10) & 0x1ffff) << 2)) & wanted) == wanted
}

/** False when no token holds the two characters next to each other. */
// @ts-ignore: decorator
@inline
export function charactersMeet(left: u32, right: u32): bool {
  const first = <u32>load<u8>(numbers + left)
  const second = <u32>load<u8>(numbers + right)
  if (first != 0 && second != 0) return load<u8>(meetings + ((first << 8) | second)) == 1
  return bloom(left, right)
}

// @ts-ignore: decorator
@inline
function utf8Length(codePoint: u32): u32 {
  return codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4
}

/** As `charactersMeet`, for tokens of bytes, which may begin and end within characters. Remembers what it found. */
// @ts-ignore: decorator
@inline
export function bytesMeet(left: u32, right: u32): bool {
  // 21 bits each, and one for the answer; 0 is no pair, for the two characters are never both U+0000.
  const pair = (<u64>left << 21) | <u64>right
  const mixed = <u32>(left * 0x9e3779b1) ^ (right * 0x85ebca6b)
  const place = pairsAt + (<usize>((mixed ^ (mixed >> 15)) & 0x3fff) << 3)
  const held = load<u64>(place)
  if (held >> 1 == pair) return (held & 1) != 0
  const meet = bytesMayMeet(left, right)
  store<u64>(place, (pair << 1) | (meet ? 1 : 0))
  return meet
}

function bytesMayMeet(left: u32, right: u32): bool {
  const leftLength = utf8Length(left)
  const rightLength = utf8Length(right)
  for (let i: u32 = 0; i < leftLength; i++) {
    const end = i == 0 ? left : (i << 24) | (left & ((1 << (6 * i)) - 1))
    for (let j: u32 = 0; j < rightLength; j++) {
      const start = j == 0 ? right : ((4 * rightLength + j) << 24) | (right >> (6 * (rightLength - j)))
      if (bloom(end, start)) return true
    }
  }
  return false
}
