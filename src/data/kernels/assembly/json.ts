// JSON as `JSON.parse` takes it, checked byte by byte; what is not plainly right is left to the host, which says why.
import { isHigh } from './characters'
import { nfcSafe } from './tables'

/** Next byte to read. Behind the lines stands a newline, which no value goes beyond. */
export let at: usize = 0
/** Whether the string that was passed over last has an escape. */
export let hasEscape = false

export function startAt(address: usize): void {
  at = address
}

// @ts-ignore: decorator
@inline
export function byteHere(): u32 {
  return <u32>load<u8>(at)
}

/** Passes over this byte, if it is the next. */
// @ts-ignore: decorator
@inline
export function take(byte: u32): bool {
  if (byteHere() != byte) return false
  at++
  return true
}

export function skipBlanks(): void {
  let byte = byteHere()
  while (byte == 0x20 || byte == 0x09 || byte == 0x0d) {
    at++
    byte = byteHere()
  }
}

/** Bytes from `from` that are plain ASCII: 16 for all. */
// @ts-ignore: decorator
@inline
function plainBytes(bytes: v128): i32 {
  const special = v128.or(
    i8x16.lt_s(bytes, i8x16.splat(0x20)),
    v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c))),
  )
  return ctz(i8x16.bitmask(special) | 0x10000)
}

/** Passes over a string behind its opening quote; false when it is not right. */
export function skipString(): bool {
  hasEscape = false
  for (;;) {
    const plain = plainBytes(v128.load(at))
    at += plain
    if (plain == 16) continue
    const byte = byteHere()
    if (byte == 0x22) break
    if (byte == 0x5c) {
      hasEscape = true
      if (readEscape() < 0) return false
    } else if (byte < 0x80 || readCharacter() < 0) return false
  }
  at++
  return true
}

/** Writes a string's units behind its opening quote to `to`; returns where they end, or 0 when it is left to the host. */
export function readString(to: usize): usize {
  for (;;) {
    const bytes = v128.load(at)
    v128.store(to, i16x8.extend_low_i8x16_u(bytes))
    v128.store(to, i16x8.extend_high_i8x16_u(bytes), 16)
    const plain = plainBytes(bytes)
    at += plain
    to += <usize>plain << 1
    if (plain == 16) continue
    let byte = byteHere()
    if (byte == 0x22) break
    if (byte < 0x80 && byte != 0x5c) return 0
    while (byte >= 0x80 || byte == 0x5c) {
      const codePoint = byte == 0x5c ? readEscape() : readCharacter()
      if (codePoint < 0) return 0
      if (codePoint >= 0x300 && nfcSafe != 0 && !isSafe(codePoint)) return 0
      if (codePoint < 0x10000) {
        store<u16>(to, codePoint)
        to += 2
      } else {
        store<u16>(to, 0xd7c0 + (codePoint >> 10))
        store<u16>(to, 0xdc00 | (codePoint & 0x3ff), 2)
        to += 4
      }
      byte = byteHere()
    }
  }
  at++
  return to
}

/** Whether NFC leaves the character as it is, whatever stands before it. */
// @ts-ignore: decorator
@inline
function isSafe(codePoint: i32): bool {
  return ((load<u8>(nfcSafe + (codePoint >> 3)) >> <u8>(codePoint & 7)) & 1) != 0
}

/** Code point of the bytes here, which are not ASCII; -1 when they are no UTF-8. */
function readCharacter(): i32 {
  const first = byteHere()
  const second = (<u32>load<u8>(at, 1)) ^ 0x80
  if (second >= 0x40) return -1
  if (first < 0xe0) {
    at += 2
    return first < 0xc2 ? -1 : <i32>(((first & 0x1f) << 6) | second)
  }
  const third = (<u32>load<u8>(at, 2)) ^ 0x80
  if (third >= 0x40) return -1
  if (first < 0xf0) {
    at += 3
    const codePoint = ((first & 0xf) << 12) | (second << 6) | third
    return codePoint < 0x800 || (codePoint & 0xf800) == 0xd800 ? -1 : <i32>codePoint
  }
  const fourth = (<u32>load<u8>(at, 3)) ^ 0x80
  if (fourth >= 0x40 || first > 0xf4) return -1
  at += 4
  const codePoint = ((first & 7) << 18) | (second << 12) | (third << 6) | fourth
  return codePoint < 0x10000 || codePoint > 0x10ffff ? -1 : <i32>codePoint
}

/** Code point of the escape here; -1 for one that does not exist, and for half a surrogate pair. */
function readEscape(): i32 {
  const kind = <u32>load<u8>(at, 1)
  at += 2
  if (kind == 0x6e) return 0x0a
  if (kind == 0x22 || kind == 0x5c || kind == 0x2f) return kind
  if (kind == 0x74) return 0x09
  if (kind == 0x72) return 0x0d
  if (kind == 0x62) return 0x08
  if (kind == 0x66) return 0x0c
  if (kind != 0x75) return -1
  const unit = readHex()
  if (unit < 0 || (unit & 0xf800) != 0xd800) return unit
  if (!isHigh(unit) || !take(0x5c) || !take(0x75)) return -1
  const low = readHex()
  return (low & 0xfc00) == 0xdc00 ? 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff) : -1
}

function readHex(): i32 {
  let value = 0
  for (let i = 0; i < 4; i++) {
    const byte = byteHere()
    const letter = byte | 0x20
    if (byte >= 0x30 && byte <= 0x39) value = (value << 4) | (byte - 0x30)
    else if (letter >= 0x61 && letter <= 0x66) value = (value << 4) | (letter - 0x57)
    else return -1
    at++
  }
  return value
}

/** Passes over a value; false when it is not right, or deeper than anybody writes. */
export function skipValue(depth: i32): bool {
  if (take(0x22)) return skipString()
  if (depth > 40) return false
  if (take(0x7b)) return skipObject(depth + 1)
  if (take(0x5b)) return skipArray(depth + 1)
  if (take(0x74)) return take(0x72) && take(0x75) && take(0x65)
  if (take(0x66)) return take(0x61) && take(0x6c) && take(0x73) && take(0x65)
  if (take(0x6e)) return take(0x75) && take(0x6c) && take(0x6c)
  return skipNumber()
}

function skipObject(depth: i32): bool {
  skipBlanks()
  if (take(0x7d)) return true
  do {
    skipBlanks()
    if (!take(0x22) || !skipString()) return false
    skipBlanks()
    if (!take(0x3a)) return false
    skipBlanks()
    if (!skipValue(depth)) return false
    skipBlanks()
  } while (take(0x2c))
  return take(0x7d)
}

function skipArray(depth: i32): bool {
  skipBlanks()
  if (take(0x5d)) return true
  do {
    skipBlanks()
    if (!skipValue(depth)) return false
    skipBlanks()
  } while (take(0x2c))
  return take(0x5d)
}

function skipNumber(): bool {
  take(0x2d)
  if (!take(0x30) && !skipDigits()) return false
  if (take(0x2e) && !skipDigits()) return false
  if (take(0x65) || take(0x45)) {
    if (!take(0x2b)) take(0x2d)
    return skipDigits()
  }
  return true
}

/** Passes over digits, of which there must be one. */
function skipDigits(): bool {
  const start = at
  while (byteHere() >= 0x30 && byteHere() <= 0x39) at++
  return at > start
}
