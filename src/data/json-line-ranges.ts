import { type FileHandle, open } from 'node:fs/promises'
import { extname } from 'node:path'
import { FormatError } from '../errors.ts'
import { isBlank } from '../formats/json-record.ts'
import { linePlace } from '../formats/line-place.ts'
import { maxRecordBytes } from '../formats/text-source.ts'

/** Bytes of a file, to be read apart from the others: the lines that begin in it. */
export interface LineRange {
  readonly file: string
  /** True where a line is known to begin at `start`. */
  readonly isFirst: boolean
  readonly start: number
  readonly end: number
}

/** Bytes of one range: enough work for one message between threads, little to hold in memory. */
export const rangeBytes = 1 << 20

/** Bytes behind a range that are read first for the end of its last line. */
const tailBytes = 1 << 16

/** Room for a range, the byte before it, and the end of its last line. */
export const lineRoomBytes = 1 + rangeBytes + tailBytes

/**
 * Cuts a file of plain JSON lines into ranges; undefined for any other file, also one that begins with an array.
 * Ranges are numbers only, so that threads can read them for themselves.
 */
export async function cutLineRanges(file: string): Promise<LineRange[] | undefined> {
  if (!/^\.jsonl?$/i.test(extname(file))) return undefined
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    const start = await startOfObject(handle)
    if (start === undefined) return undefined
    return Array.from({ length: Math.ceil((size - start) / rangeBytes) }, (_, i) => {
      const at = start + i * rangeBytes
      return { file, isFirst: i === 0, start: at, end: Math.min(at + rangeBytes, size) }
    })
  } finally {
    await handle.close()
  }
}

/** Where the first byte that is not blank stands, if it opens an object. Looks at the first 64 KiB. */
async function startOfObject(handle: FileHandle): Promise<number | undefined> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(1 << 16), 0, 1 << 16, 0)
  let at = buffer.subarray(0, 3).equals(byteOrderMark) ? 3 : 0
  while (at < bytesRead && isBlank(buffer[at])) at++
  return at < bytesRead && buffer[at] === 0x7b ? at : undefined
}

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/** The whole lines of a range; blank lines are among them. */
export interface RangeLines {
  readonly bytes: Buffer
  /** Where `bytes` starts in the file. */
  readonly offset: number
  /** Makes the error for the line after these, which begins in the range as well; absent when it can be read. */
  readonly tooLong?: (() => FormatError) | undefined
}

/**
 * Reads the lines that begin in a range, the last one to its end, which may be beyond the range, unless it is longer
 * than `maxRecordBytes`. They lie in `room` where that is long enough: `lineRoomBytes` for nearly all ranges.
 */
export async function readLineRange({ file, isFirst, start, end }: LineRange, room?: Buffer): Promise<RangeLines> {
  const handle = await open(file, 'r')
  try {
    // A line begins where the byte before it ends another one.
    const from = isFirst ? start : start - 1
    let wanted = end - from
    let bytes = room && room.length >= wanted ? room : Buffer.allocUnsafe(wanted + tailBytes)
    let filled = await fill(handle, bytes.subarray(0, wanted), { filled: 0, position: from })
    const first = isFirst ? 0 : bytes.subarray(0, filled).indexOf(0x0a) + 1
    if ((!isFirst && first === 0) || from + first >= end) return { bytes: bytes.subarray(0, 0), offset: end }
    // The last byte of the range may end a line, and then the range; else its last line goes on.
    const last = bytes.subarray(0, filled).lastIndexOf(0x0a) + 1
    const longest = last + maxRecordBytes + 1
    while (bytes[filled - 1] !== 0x0a && filled === wanted) {
      if (filled === longest) {
        const start = from + last
        return { bytes: bytes.subarray(first, last), offset: from + first, tooLong: () => tooLong(file, start) }
      }
      wanted = Math.min(longest, wanted === end - from ? wanted + tailBytes : 2 * wanted)
      if (wanted > bytes.length) {
        const more = Buffer.allocUnsafe(wanted)
        bytes.copy(more, 0, 0, filled)
        bytes = more
      }
      const searched = filled
      filled = await fill(handle, bytes.subarray(0, wanted), { filled, position: from })
      const newline = bytes.subarray(0, filled).indexOf(0x0a, searched)
      if (newline < 0) continue
      filled = newline + 1
      break
    }
    return { bytes: bytes.subarray(first, filled), offset: from + first }
  } finally {
    await handle.close()
  }
}

/** Reads until `bytes` is full or the file ends; returns how much of `bytes` is filled. */
async function fill(handle: FileHandle, bytes: Buffer, at: { filled: number; position: number }): Promise<number> {
  let { filled } = at
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, at.position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return filled
}

function tooLong(file: string, offset: number): FormatError {
  const found = `a longer one that begins in ${linePlace(file, offset).place}`
  return new FormatError({ file, offset, expected: `rows of at most ${maxRecordBytes} bytes`, found })
}
