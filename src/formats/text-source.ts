import { type FileHandle, open } from 'node:fs/promises'
import { extname } from 'node:path'
import { FormatError } from '../errors.ts'
import { type Compression, decompressFile } from './compressed-file.ts'
import { linePlace, type Place } from './line-place.ts'
import { type BadRows, gatherBadRows, type ReadRecordsOptions } from './record-batch.ts'

/** Bytes asked of a file at a time. */
const readBytes = 4 << 20

/** Longest row that is read, in bytes of text: one row has to fit in memory, as bytes and, twice, as a string. */
export const maxRecordBytes = 128 << 20

/** Some bytes of a text, from a row's first byte on. It holds until the next chunk is asked for. */
export interface TextChunk {
  readonly bytes: Buffer
  /** Where `bytes` starts in the text. */
  readonly offset: number
  /** True when the text ends with `bytes`. */
  readonly isLast: boolean
  /** True when a line that is too long was passed over to get here. */
  readonly followsSkipped: boolean
}

/** A text file, plain or compressed, chunk by chunk. */
export interface TextSource {
  readonly file: string
  /** Where readers put rows that are damaged; a line that is too long is put there by `next`. */
  readonly bad: BadRows
  /** The chunk that follows once `used` bytes of the one before are done with; its first bytes are the rest of that. */
  next(used: number): Promise<TextChunk | undefined>
  /** Where byte `offset` of the text stands, which must be in the last chunk. */
  place(offset: number): Place
  /** Where rows that start at these bytes of the last chunk, in ascending order, stand; it may be asked at any time. */
  locator(starts: readonly number[]): (index: number) => Place
  /** Bytes of the file that are done with once the text is up to `offset`; for compressed files all that were read. */
  bytesRead(offset: number): number
  close(): Promise<void>
}

/**
 * Opens a text file; `.gz` and `.zst` at the end of its name say that it is compressed. Memory is one read of 4 MiB, or
 * the longest row.
 */
export async function openText(file: string, options: ReadRecordsOptions = {}): Promise<TextSource> {
  const compression = compressions[extname(file).toLowerCase()]
  const opening = { bad: gatherBadRows(options), signal: options.signal }
  return compression ? openCompressed(file, { ...opening, compression }) : openPlain(file, opening)
}

interface Opening {
  readonly bad: BadRows
  readonly signal: AbortSignal | undefined
}

const compressions: Readonly<Record<string, Compression>> = { '.gz': 'gzip', '.zst': 'zstd' }

async function openPlain(file: string, { bad, signal }: Opening): Promise<TextSource> {
  const handle = await open(file, 'r')
  const fill = (buffer: Buffer, at: { from: number; position: number }) => fillFromFile(handle, buffer, at)
  return {
    file,
    bad,
    next: createWindow(file, { fill, bad, signal, place: offset => linePlace(file, offset) }).next,
    place: offset => linePlace(file, offset),
    locator: starts => index => linePlace(file, starts[index] ?? 0),
    bytesRead: offset => offset,
    close: () => handle.close(),
  }
}

async function fillFromFile(handle: FileHandle, buffer: Buffer, at: { from: number; position: number }) {
  const { bytesRead } = await handle.read(buffer, at.from, buffer.length - at.from, at.position)
  return bytesRead
}

async function openCompressed(
  file: string,
  { compression, bad, signal }: Opening & { readonly compression: Compression },
): Promise<TextSource> {
  const inflated = decompressFile(file, compression)
  let piece: { bytes: Uint8Array; consumed: number } = { bytes: new Uint8Array(), consumed: 0 }
  const fill = async (buffer: Buffer, { from }: { from: number }) => {
    while (piece.bytes.length === 0) {
      const step = await inflated.next()
      if (step.done) return 0
      piece = step.value
    }
    const count = Math.min(piece.bytes.length, buffer.length - from)
    buffer.set(piece.bytes.subarray(0, count), from)
    piece = { ...piece, bytes: piece.bytes.subarray(count) }
    return count
  }
  // The text cannot be read again to count its lines, so they are counted on the way.
  let chunk: TextChunk | undefined
  let line = 1
  const place = (offset: number): Place => {
    const here = chunk?.bytes.subarray(0, Math.max(0, offset - chunk.offset))
    return { place: `line ${line + (here ? countLines(here) : 0)}` }
  }
  const window = createWindow(file, { fill, bad, signal, place })
  return {
    file,
    bad,
    async next(used) {
      if (chunk) line += countLines(chunk.bytes.subarray(0, used))
      chunk = await window.next(used)
      if (chunk?.followsSkipped) line++
      return chunk
    },
    place,
    locator(starts) {
      let at = chunk?.offset ?? 0
      let current = line
      const lines = starts.map(start => {
        if (chunk) current += countLines(chunk.bytes.subarray(at - chunk.offset, start - chunk.offset))
        at = start
        return current
      })
      return index => ({ place: `line ${lines[index] ?? line}` })
    },
    bytesRead: () => piece.consumed,
    close: async () => void (await inflated.return()),
  }
}

function countLines(bytes: Uint8Array): number {
  let lines = 0
  for (let i = bytes.indexOf(0x0a); i >= 0; i = bytes.indexOf(0x0a, i + 1)) lines++
  return lines
}

/** A window over a text: what was not used comes again, followed by more, so that a row is whole at some time. */
function createWindow(
  file: string,
  {
    fill,
    bad,
    signal,
    place,
  }: Opening & {
    readonly fill: (buffer: Buffer, at: { from: number; position: number }) => Promise<number>
    readonly place: (offset: number) => Place
  },
) {
  let buffer = Buffer.allocUnsafe(readBytes)
  let filled = 0
  let offset = 0
  let hasEnded = false
  const discard = (count: number) => {
    buffer.copyWithin(0, count, filled)
    filled -= count
    offset += count
  }
  const read = async () => {
    while (filled < buffer.length && !hasEnded) {
      const count = await fill(buffer, { from: filled, position: offset + filled })
      if (count === 0) hasEnded = true
      filled += count
      signal?.throwIfAborted()
    }
  }
  return {
    async next(used: number): Promise<TextChunk | undefined> {
      signal?.throwIfAborted()
      if (hasEnded) return undefined
      let followsSkipped = false
      if (used === 0 && filled === buffer.length) {
        if (filled < maxRecordBytes) {
          const greater = Buffer.allocUnsafe(Math.min(2 * buffer.length, maxRecordBytes))
          buffer.copy(greater)
          buffer = greater
        } else {
          bad.add(() => tooLong(file, place(offset)))
          followsSkipped = true
          let newline = buffer.indexOf(0x0a)
          for (; newline < 0 && !hasEnded; newline = buffer.subarray(0, filled).indexOf(0x0a)) {
            discard(filled)
            await read()
          }
          discard(newline < 0 ? filled : newline + 1)
        }
      }
      discard(used)
      // Once the long row is through: a chunk becomes rows all at once, which take more than its bytes.
      if ((used > 0 || followsSkipped) && buffer.length > readBytes && filled < readBytes) {
        const smaller = Buffer.allocUnsafe(readBytes)
        buffer.copy(smaller, 0, 0, filled)
        buffer = smaller
      }
      await read()
      return { bytes: buffer.subarray(0, filled), offset, isLast: hasEnded, followsSkipped }
    },
  }
}

function tooLong(file: string, { place, offset }: Place): FormatError {
  const expected = `rows of at most ${maxRecordBytes} bytes`
  return new FormatError({ file, offset, expected, found: `a longer one that begins in ${place}` })
}
