import { createRequire } from 'node:module'
import { crc32 } from 'node:zlib'

/** The CRC-32 of bytes that follow others whose CRC-32 is `before` (default: none). */
export type Crc32 = (bytes: Uint8Array, before?: number) => number

/**
 * The fastest CRC-32 at hand: that of `@node-rs/crc32`, an optional dependency with native code, or else zlib's, which
 * takes twice the time or more.
 */
export function loadCrc32(): Crc32 {
  loaded ??= load()
  return loaded
}

let loaded: Crc32 | undefined

function load(): Crc32 {
  try {
    // Quicker than `import`, which reads the package's source for names first, in every thread.
    return (createRequire(import.meta.url)('@node-rs/crc32') as typeof import('@node-rs/crc32')).crc32
  } catch {
    return crc32
  }
}
