import { sharedArrays } from './shared-arrays.ts'

/**
 * Ranges of characters of much used scripts that NFC leaves as they are, whatever stands before them: starters that are
 * never the second part of a composition. Others may be such, too: what has one is normalized, which then changes nothing.
 */
const ranges = [
  [0x0, 0x2ff],
  [0x391, 0x3a1],
  [0x3a3, 0x3ce],
  [0x400, 0x482],
  [0x48a, 0x52f],
  [0x5d0, 0x5ea],
  [0x621, 0x64a],
  [0x2002, 0x200f],
  [0x2010, 0x205e],
  [0x20a0, 0x20bf],
  [0x2100, 0x2125],
  [0x2150, 0x218b],
  [0x2190, 0x2328],
  [0x232b, 0x23ff],
  [0x2460, 0x2adb],
  [0x2b00, 0x2b73],
  [0x2e80, 0x2ef3],
  [0x3001, 0x3029],
  [0x3030, 0x3096],
  [0x309b, 0x30ff],
  [0x3105, 0x312f],
  [0x3131, 0x318e],
  [0x3200, 0x9fff],
  [0xa000, 0xa48c],
  [0xac00, 0xd7a3],
  [0xe000, 0xf8ff],
  [0xff00, 0xffef],
  [0x1f000, 0x1faff],
  [0x20000, 0x2a6df],
] as const

/** A bit for each code point, the lowest of a byte first: 1 where NFC leaves it as it is. */
export function nfcSafeBits(): Uint8Array {
  const bits = sharedArrays.bytes(0x110000 / 8)
  for (const [first, last] of ranges) {
    for (let codePoint = first; codePoint <= last; codePoint++) {
      bits[codePoint >> 3] = (bits[codePoint >> 3] as number) | (1 << (codePoint & 7))
    }
  }
  return bits
}
