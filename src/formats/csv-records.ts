import { isUtf8 } from 'node:buffer'
import { FormatError } from '../errors.ts'
import { type DataRecord, type ReadRecordsOptions, type RecordBatch, setColumn } from './record-batch.ts'
import { openText, type TextChunk, type TextSource } from './text-source.ts'

/**
 * Rows of a CSV file, whose first row names the columns. Every value is text as it stands: an empty field is an empty
 * text, and `NA` is these two letters.
 *
 * Byte order mark, LF, CRLF and CR, blank lines, and quoted commas, quotes (doubled) and newlines are accepted; what
 * follows a closing quote, and a quote within a field, is text (all this as pandas has it). Memory is one read of 4 MiB
 * and its rows, or the longest row.
 * @throws FormatError with its line for a row with another number of fields, a quote that does not end, other bytes
 * than UTF-8, or a column that is there twice.
 */
export async function* readCsvRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const text = await openText(file, options.signal)
  try {
    let names: readonly string[] | undefined
    let end = 0
    for (let chunk = await text.next(0); chunk; chunk = await text.next(end)) {
      const rows = readRows(chunk, text)
      end = rows.end
      checkUtf8(chunk, { text, rows })
      const records: DataRecord[] = []
      const starts: number[] = []
      for (const { fields, start } of rows.rows) {
        if (!names) names = checkNames(fields, { text, start })
        else {
          records.push(toRecord(fields, { names, text, start }))
          starts.push(start)
        }
      }
      if (records.length === 0) continue
      yield { file, records, bytesRead: text.bytesRead(chunk.offset + end), locate: text.locator(starts) }
    }
  } finally {
    await text.close()
  }
}

interface CsvRow {
  readonly fields: readonly string[]
  /** Its first byte in the text. */
  readonly start: number
}

interface CsvRows {
  readonly rows: readonly CsvRow[]
  /** Where the last whole row ends in the chunk. */
  readonly end: number
}

const quote = 0x22
const comma = 0x2c
const lineFeed = 0x0a
const carriageReturn = 0x0d

function readRows(chunk: TextChunk, text: TextSource): CsvRows {
  const { bytes, offset, isLast } = chunk
  const rows: CsvRow[] = []
  let end = offset === 0 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
  while (end < bytes.length) {
    const fields: string[] = []
    let at = end
    for (let more = true; more; ) {
      const field = readField(bytes, at)
      if (
        !field ||
        (!isLast && field.end >= bytes.length - 1 && bytes[field.end] !== comma && bytes[field.end] !== lineFeed)
      ) {
        if (!isLast) return { rows, end }
        throw openQuote(text, offset + at)
      }
      fields.push(field.value)
      more = bytes[field.end] === comma
      at = field.end + 1
    }
    if (bytes[at - 1] === carriageReturn && bytes[at] === lineFeed) at++
    if (!isBlankRow(fields, bytes[end])) rows.push({ fields, start: offset + end })
    end = Math.min(at, bytes.length)
  }
  return { rows, end }
}

/** The field that starts at `start`, and where it ends: at a comma, the end of a line, or of the bytes. */
function readField(bytes: Buffer, start: number): { value: string; end: number } | undefined {
  let end = start
  let value = ''
  if (bytes[start] === quote) {
    let close = bytes.indexOf(quote, start + 1)
    let hasQuotes = false
    while (close >= 0 && bytes[close + 1] === quote) {
      hasQuotes = true
      close = bytes.indexOf(quote, close + 2)
    }
    if (close < 0) return undefined
    value = bytes.toString('utf8', start + 1, close)
    if (hasQuotes) value = value.replaceAll('""', '"')
    end = close + 1
  }
  const rest = end
  const { length } = bytes
  for (; end < length; end++) {
    const byte = bytes[end]
    if (byte === comma || byte === lineFeed || byte === carriageReturn) break
  }
  return { value: end === rest ? value : value + bytes.toString('utf8', rest, end), end }
}

/** Nothing, or spaces and tabs alone, and no quotes. */
function isBlankRow(fields: readonly string[], first: number | undefined): boolean {
  return fields.length === 1 && first !== quote && /^[ \t]*$/.test(fields[0] ?? '')
}

function openQuote(text: TextSource, offset: number): FormatError {
  const at = text.place(offset)
  const found = `the end of the file; it is open since ${at.place}`
  return new FormatError({ file: text.file, offset: at.offset, expected: 'the end of a quote', found })
}

function checkUtf8({ bytes, offset }: TextChunk, { text, rows }: { text: TextSource; rows: CsvRows }): void {
  if (isUtf8(bytes.subarray(0, rows.end))) return
  const starts = rows.rows.map(row => row.start)
  const ends = [...starts.slice(1), offset + rows.end]
  const wrong = starts.findIndex((start, i) => !isUtf8(bytes.subarray(start - offset, (ends[i] ?? 0) - offset)))
  const at = text.place(starts[wrong] ?? offset)
  throw new FormatError({
    file: text.file,
    offset: at.offset,
    expected: 'UTF-8',
    found: `other bytes in the row of ${at.place}`,
  })
}

function checkNames(names: readonly string[], { text, start }: { text: TextSource; start: number }): readonly string[] {
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice === undefined) return names
  const at = text.place(start)
  const found = `${JSON.stringify(twice)} twice in ${at.place}`
  throw new FormatError({ file: text.file, offset: at.offset, expected: 'columns of different names', found })
}

function toRecord(
  fields: readonly string[],
  { names, text, start }: { names: readonly string[]; text: TextSource; start: number },
): DataRecord {
  if (fields.length !== names.length) {
    const at = text.place(start)
    const expected = `${names.length} fields in each row, as in the first`
    const found = `${fields.length} in ${at.place}`
    throw new FormatError({ file: text.file, offset: at.offset, expected, found })
  }
  const record: Record<string, unknown> = {}
  for (let i = 0; i < names.length; i++) setColumn(record, names[i] ?? '', fields[i])
  return record
}
