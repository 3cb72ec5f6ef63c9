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

/** The bytes that a byte-level token stands for, or undefined when it has a character of another alphabet. */
export function tokenBytes(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = unitBytes[token.charCodeAt(i)] ?? -1
    if (byte < 0) return undefined
    bytes[i] = byte
  }
  return bytes
}
