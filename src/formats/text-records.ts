import { isUtf8 } from 'node:buffer'
import { FormatError } from '../errors.ts'
import type { BadRows, ReadRecordsOptions, RecordBatch } from './record-batch.ts'
import { openText, type TextChunk } from './text-source.ts'

/**
 * Rows of a text file: each line, without its end, is column `text`; empty lines are rows, too.
 *
 * As the `text` builder of Hugging Face datasets has it, lines end with LF, CRLF or a lone CR, and a byte order mark
 * belongs to the first row. Memory is one read of 4 MiB and its rows, or the longest line.
 * @throws FormatError with the line when bytes are not UTF-8, or a line is longer than `maxRecordBytes`.
 */
export async function* readTextRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const text = await openText(file, options)
  try {
    let before = 0
    let end = 0
    for (let chunk = await text.next(0); chunk; chunk = await text.next(end)) {
      if (chunk.followsSkipped) before++
      end = endOfLines(chunk)
      const first = before
      const { lines, numbers } = readLines(chunk.bytes.subarray(0, end), { first, file, bad: text.bad })
      const taken = text.bad.take()
      before += lines.length + (taken.bad?.rows ?? 0) - (chunk.followsSkipped ? 1 : 0)
      if (lines.length === 0 && !taken.bad) continue
      const records = lines.map(line => ({ text: line }))
      const locate = (index: number) => ({ place: `line ${numbers?.[index] ?? first + index + 1}` })
      yield { file, records, ...taken, bytesRead: text.bytesRead(chunk.offset + end), locate }
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

interface TextLines {
  readonly lines: readonly string[]
  /** Their numbers in the file, where some between them are damaged. */
  readonly numbers?: readonly number[]
}

/** `first` is the number of lines before. */
function readLines(bytes: Buffer, { first, file, bad }: { first: number; file: string; bad: BadRows }): TextLines {
  if (isUtf8(bytes)) {
    const lines = bytes.toString('utf8').split(/\r\n|\r|\n/)
    // What follows the end of the last line is no line, unless there is something.
    if (lines.at(-1) === '') lines.pop()
    return { lines }
  }
  const lines: string[] = []
  const numbers: number[] = []
  // As Latin-1 every byte is a character, so that lines can be told apart whatever is in them.
  const raw = bytes.toString('latin1').split(/\r\n|\r|\n/)
  if (raw.at(-1) === '') raw.pop()
  for (const [i, characters] of raw.entries()) {
    const line = Buffer.from(characters, 'latin1')
    const number = first + i + 1
    if (isUtf8(line)) {
      lines.push(line.toString('utf8'))
      numbers.push(number)
    } else bad.add(() => new FormatError({ file, expected: 'UTF-8', found: `other bytes in line ${number}` }))
  }
  return { lines, numbers }
}
