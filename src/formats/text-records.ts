import { isUtf8 } from 'node:buffer'
import { FormatError } from '../errors.ts'
import type { ReadRecordsOptions, RecordBatch } from './record-batch.ts'
import { openText, type TextChunk } from './text-source.ts'

/**
 * Rows of a text file: each line, without its end, is column `text`; empty lines are rows, too.
 *
 * As the `text` builder of Hugging Face datasets has it, lines end with LF, CRLF or a lone CR, and a byte order mark
 * belongs to the first row. Memory is one read of 4 MiB and its rows, or the longest line.
 * @throws FormatError with the line when bytes are not UTF-8, or a line is longer than `maxRecordBytes`.
 */
export async function* readTextRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const text = await openText(file, options.signal)
  try {
    let rows = 0
    let end = 0
    for (let chunk = await text.next(0); chunk; chunk = await text.next(end)) {
      end = endOfLines(chunk)
      if (end === 0) continue
      const bytes = chunk.bytes.subarray(0, end)
      const lines = bytes.toString('utf8').split(/\r\n|\r|\n/)
      if (!isUtf8(bytes)) throw notUtf8(file, { bytes, lines, rows })
      // What follows the end of the last line is no line, unless there is something.
      if (lines.at(-1) === '') lines.pop()
      const first = rows
      rows += lines.length
      const records = lines.map(line => ({ text: line }))
      const locate = (index: number) => ({ place: `line ${first + index + 1}` })
      yield { file, records, bytesRead: text.bytesRead(chunk.offset + end), locate }
    }
  } finally {
    await text.close()
  }
}

/** Where the last whole line of a chunk ends; a CR at the very end may be half of a CRLF. */
function endOfLines({ bytes, isLast }: TextChunk): number {
  if (isLast) return bytes.length
  const carriageReturn = bytes.subarray(0, -1).lastIndexOf(0x0d)
  const end = Math.max(bytes.lastIndexOf(0x0a), carriageReturn) + 1
  // A CRLF is not cut in two.
  return bytes[end - 1] === 0x0d && bytes[end] === 0x0a ? end + 1 : end
}

function notUtf8(file: string, { bytes, lines, rows }: { bytes: Buffer; lines: string[]; rows: number }): FormatError {
  let start = 0
  const index = lines.findIndex(line => {
    const length = Buffer.byteLength(line)
    const isWrong = !bytes.subarray(start, start + length).equals(Buffer.from(line))
    start += length + (bytes[start + length] === 0x0d && bytes[start + length + 1] === 0x0a ? 2 : 1)
    return isWrong
  })
  return new FormatError({ file, expected: 'UTF-8', found: `other bytes in line ${rows + index + 1}` })
}
