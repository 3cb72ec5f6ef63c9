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

/** The bytes that the units of a token stand for; undefined when all are ASCII, or one is of another alphabet. */
export function bytesBeyondAscii(units: Uint16Array, start: number, end: number): Uint8Array | undefined {
  let all = 0
  for (let i = start; i < end; i++) {
    const byte = unitBytes[units[i] as number] ?? -1
    if (byte < 0) return undefined
    all |= byte
  }
  if (all < 0x80) return undefined
  const bytes = new Uint8Array(end - start)
  for (let i = start; i < end; i++) bytes[i - start] = unitBytes[units[i] as number] as number
  return bytes
}
