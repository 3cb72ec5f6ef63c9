import type { TokenList } from './token-table.ts'

/**
 * The character that stands for each byte in a byte-level vocabulary: printable Latin-1 characters for themselves,
 * the other bytes as U+0100 and on. Source: GPT-2, encoder.py, `bytes_to_unicode`.
 */
export const byteCharacters: readonly string[] = (() => {
  const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++))
})()

/** Byte of each character of that alphabet. */
export const characterBytes: ReadonlyMap<string, number> = new Map(
  byteCharacters.map((character, byte) => [character, byte]),
)

/** Byte of each code unit of that alphabet, or -1; the alphabet ends before the table does. */
export const unitBytes: Int16Array = Int16Array.from(
  { length: 0x200 },
  (_, unit) => characterBytes.get(String.fromCharCode(unit)) ?? -1,
)

/** What the tokens of a byte-level vocabulary stand for. */
export interface TokenBytes {
  /** A byte for each unit. */
  readonly bytes: Buffer
  /** Of each token. */
  readonly kinds: Uint8Array
}

export const tokenKinds = { ascii: 0, beyondAscii: 1, otherAlphabet: 2 }

export function bytesOfTokens({ starts, pool }: TokenList): TokenBytes {
  const { beyondAscii, otherAlphabet } = tokenKinds
  const bytes = Buffer.allocUnsafe(pool.length)
  const kinds = new Uint8Array(starts.length - 1)
  let token = 0
  for (let i = 0; i < pool.length; i++) {
    while (i >= (starts[token + 1] as number)) token++
    const unit = pool[i] as number
    const byte = unit < unitBytes.length ? (unitBytes[unit] as number) : -1
    bytes[i] = byte
    if (byte < 0) kinds[token] = otherAlphabet
    else if (byte >= 0x80 && kinds[token] !== otherAlphabet) kinds[token] = beyondAscii
  }
  return { bytes, kinds }
}
