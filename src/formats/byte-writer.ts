/** Bytes that grow at their end: no buffer for each few of them. */
export interface ByteWriter {
  byte(value: number): void
  /** Characters below 128. */
  ascii(text: string): void
  /** As UTF-8, behind its length in bytes, a `uint32`. */
  sizedText(text: string): void
  /** Little-endian, as `int64`. */
  uint32(value: number): void
  int64(value: bigint): void
  doubleBigEndian(value: number): void
  /** What was written; the caller's from then on. */
  bytes(): Uint8Array
}

/** Starts with nothing. */
export function byteWriter(): ByteWriter {
  let out = Buffer.alloc(2 ** 12)
  let end = 0
  // Gives where the next `length` bytes begin.
  const take = (length: number): number => {
    const start = end
    end += length
    if (end > out.length) out = Buffer.concat([out], 2 * end)
    return start
  }
  return {
    byte(value) {
      const at = take(1)
      out[at] = value
    },
    ascii(text) {
      const at = take(text.length)
      for (let i = 0; i < text.length; i++) out[at + i] = text.charCodeAt(i)
    },
    sizedText(text) {
      const length = Buffer.byteLength(text)
      const at = take(4 + length)
      out.writeUInt32LE(length, at)
      out.write(text, at + 4)
    },
    uint32(value) {
      const at = take(4)
      out.writeUInt32LE(value, at)
    },
    int64(value) {
      const at = take(8)
      out.writeBigInt64LE(value, at)
    },
    doubleBigEndian(value) {
      const at = take(8)
      out.writeDoubleBE(value, at)
    },
    bytes: () => out.subarray(0, end),
  }
}
