import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { FormatError, UnsupportedError } from '../errors.ts'

/** How a file is compressed. */
export type Compression = 'gzip' | 'zstd'

/** Some text of a compressed file. */
export interface Inflated {
  readonly bytes: Uint8Array
  /** Bytes of the file that were read to get here. */
  readonly consumed: number
}

/**
 * The text of a compressed file, piece by piece; a piece may be empty. Memory is at most a few MiB for gzip, a window of
 * at most 128 MiB for zstd, whose decoder (fzstd) is loaded on the first call.
 * @throws FormatError when the file is damaged or cut off; UnsupportedError for a dictionary or a larger window.
 */
export async function* decompressFile(file: string, compression: Compression): AsyncGenerator<Inflated, void, void> {
  try {
    yield* compression === 'gzip' ? gunzip(file) : unzstd(file)
  } catch (cause) {
    if (cause instanceof UnsupportedError || (cause as NodeJS.ErrnoException).syscall) throw cause
    throw new FormatError({ file, expected: `a ${compression} file`, found: (cause as Error).message, cause })
  }
}

async function* gunzip(file: string): AsyncGenerator<Inflated, void, void> {
  const stored = createReadStream(file, { highWaterMark: 1 << 18 })
  const inflated = createGunzip({ chunkSize: 1 << 20 })
  // Its error reaches the loop through the second stream.
  pipeline(stored, inflated, () => {})
  for await (const bytes of inflated) yield { bytes, consumed: stored.bytesRead }
}

/** Largest window, as the zstd program itself has it. */
const maxWindow = 128 << 20

/**
 * Blocks go to the decoder one by one: each gives at most 128 KiB, however well it was compressed, and no frame is
 * believed that wants a window out of bounds. Source: RFC 8878, section 3.1.1.
 */
async function* unzstd(file: string): AsyncGenerator<Inflated, void, void> {
  const { Decompress } = await import('fzstd')
  const pieces: Uint8Array[] = []
  const decoder = new Decompress(piece => void pieces.push(piece))
  let held: Buffer = Buffer.alloc(0)
  let consumed = 0
  let state: FrameState = { wants: 'frame', hasChecksum: false }
  for await (const stored of createReadStream(file, { highWaterMark: 1 << 18 })) {
    held = Buffer.concat([held, stored as Buffer])
    let at = 0
    for (;;) {
      const unit = nextUnit(held.subarray(at), state, file)
      if (!unit) break
      // The decoder may keep what it gets.
      decoder.push(Uint8Array.prototype.slice.call(held, at, at + unit.length))
      at += unit.length
      consumed += unit.length
      state = unit.state
      // The decoder's output may lie in its window: whoever asks for more must have copied it.
      for (const bytes of pieces.splice(0)) yield { bytes, consumed }
    }
    held = held.subarray(at)
  }
  if (consumed === 0 || held.length > 0 || state.wants !== 'frame') throw new RangeError('unexpected end of file')
  decoder.push(new Uint8Array(), true)
}

interface FrameState {
  readonly wants: 'frame' | 'block' | 'checksum' | 'skip'
  readonly hasChecksum: boolean
  /** Bytes of a skippable frame that are left. */
  readonly left?: number
}

/** The next whole part of a frame at the start of `bytes`; undefined while it is not all there. */
function nextUnit(bytes: Buffer, state: FrameState, file: string): { length: number; state: FrameState } | undefined {
  const frame: FrameState = { wants: 'frame', hasChecksum: false }
  switch (state.wants) {
    case 'skip': {
      const { left = 0 } = state
      const length = Math.min(left, bytes.length)
      if (length === 0) return undefined
      return { length, state: length === left ? frame : { ...state, left: left - length } }
    }
    case 'checksum':
      return bytes.length < 4 ? undefined : { length: 4, state: frame }
    case 'block': {
      if (bytes.length < 3) return undefined
      const header = bytes.readUIntLE(0, 3)
      const size = header >> 3
      if (size > 1 << 17) throw new RangeError(`a block of ${size} bytes`)
      const length = 3 + ((header & 6) === 2 ? 1 : size)
      if (bytes.length < length) return undefined
      const isLast = (header & 1) === 1
      const after: FrameState = state.hasChecksum ? { ...state, wants: 'checksum' } : frame
      return { length, state: isLast ? after : state }
    }
    case 'frame': {
      if (bytes.length < 5) return undefined
      const magic = bytes.readUInt32LE(0)
      if (magic >>> 4 === 0x184d2a5) {
        if (bytes.length < 8) return undefined
        const left = bytes.readUInt32LE(4)
        return { length: 8, state: left === 0 ? frame : { ...frame, wants: 'skip', left } }
      }
      if (magic !== 0xfd2fb528) throw new RangeError(`0x${magic.toString(16).padStart(8, '0')} where a frame begins`)
      return frameHeader(bytes, file)
    }
  }
}

function frameHeader(bytes: Buffer, file: string): { length: number; state: FrameState } | undefined {
  const flags = bytes[4] ?? 0
  const isSingle = (flags & 0x20) !== 0
  const windowBytes = isSingle ? 0 : 1
  const dictionaryBytes = [0, 1, 2, 4][flags & 3] ?? 0
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0
  const length = 5 + windowBytes + dictionaryBytes + sizeBytes
  if (bytes.length < length) return undefined
  const size = sizeBytes === 8 ? Number(bytes.readBigUInt64LE(length - 8)) : readSize(bytes, length, sizeBytes)
  const descriptor = bytes[5] ?? 0
  const base = 2 ** (10 + (descriptor >> 3))
  const window = isSingle ? size : base + (base / 8) * (descriptor & 7)
  if (dictionaryBytes > 0 && bytes.readUIntLE(5 + windowBytes, dictionaryBytes) !== 0) {
    throw new UnsupportedError(`${file} was compressed with a dictionary, which is not at hand.`)
  }
  if (window > maxWindow) {
    throw new UnsupportedError(`${file} needs a zstd window of ${window} bytes; ${maxWindow} are given at most.`, {
      hint: 'Compress it again without --ultra and --long.',
    })
  }
  return { length, state: { wants: 'block', hasChecksum: (flags & 4) !== 0 } }
}

function readSize(bytes: Buffer, end: number, count: number): number {
  return count === 0 ? 0 : bytes.readUIntLE(end - count, count) + (count === 2 ? 256 : 0)
}
