import { crc32 } from 'node:zlib'

/** The CRC-32 of bytes that follow others whose CRC-32 is `before` (default: none). */
export type Crc32 = (bytes: Uint8Array, before?: number) => number

/**
 * The fastest CRC-32 at hand: that of `@node-rs/crc32`, an optional dependency with native code, or else zlib's, which
 * takes twice the time or more.
 */
export async function loadCrc32(): Promise<Crc32> {
  return import('@node-rs/crc32').then(
    native => native.crc32,
    () => crc32,
  )
}
