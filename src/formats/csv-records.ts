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
 * than UTF-8, or a column that is there twice. Of these only rows can be passed over; a quote without end as its line.
 */
export async function* readCsvRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const text = await openText(file, options)
  try {
    let names: readonly string[] | undefined
    let end = 0
    for (let chunk = await text.next(0); chunk; chunk = await text.next(end)) {
      const found = readRows(chunk, { text, isNamed: names !== undefined })
      end = found.end
      const isClean = isUtf8(chunk.bytes.subarray(0, end))
      const records: DataRecord[] = []
      const starts: number[] = []
      for (const { fields, start, stop } of found.rows) {
        const bytes = chunk.bytes.subarray(start, stop)
        const row = { fields, start: chunk.offset + start, text, isText: isClean || isUtf8(bytes) }
        if (!names) names = checkNames(row)
        else {
          const record = toRecord(row, names)
          if (!record) continue
          records.push(record)
          starts.push(row.start)
        }
      }
      const bad = text.bad.take()
      if (records.length === 0 && !bad.bad) continue
      yield { file, records, ...bad, bytesRead: text.bytesRead(chunk.offset + end), locate: text.locator(starts) }
    }
  } finally {
    await text.close()
  }
}

interface CsvRow {
  readonly fields: readonly string[]
  /** Its first byte in the chunk, and the one after its last. */
  readonly start: number
  readonly stop: number
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

function readRows(chunk: TextChunk, { text, isNamed }: { text: TextSource; isNamed: boolean }): CsvRows {
  const { bytes, offset, isLast } = chunk
  const rows: CsvRow[] = []
  let end = offset === 0 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
  while (end < bytes.length) {
    const row = readRow(chunk, end)
    if ('stop' in row) {
      if (!isBlankRow(row.fields, bytes[end])) rows.push({ ...row, start: end })
      end = row.stop
      continue
    }
    if (!isLast) break
    const error = () => openQuote(text, offset + row.open)
    if (!isNamed && rows.length === 0) throw error()
    text.bad.add(error)
    // The quote was never meant to go on to here: the next line may be a row again.
    end = endOfLine(bytes, end)
  }
  return { rows, end }
}

/** The row that starts at `start`; or, when it is not all there, where its last field starts. */
function readRow(
  { bytes, isLast }: TextChunk,
  start: number,
): { readonly fields: readonly string[]; readonly stop: number } | { readonly open: number } {
  const fields: string[] = []
  let at = start
  for (let more = true; more; ) {
    const field = readField(bytes, at)
    if (!field) return { open: at }
    const { value, end } = field
    if (!isLast && end >= bytes.length - 1 && bytes[end] !== comma && bytes[end] !== lineFeed) return { open: at }
    fields.push(value)
    more = bytes[end] === comma
    at = end + 1
  }
  if (bytes[at - 1] === carriageReturn && bytes[at] === lineFeed) at++
  return { fields, stop: Math.min(at, bytes.length) }
}

function endOfLine(bytes: Buffer, start: number): number {
  let at = start
  while (at < bytes.length && bytes[at] !== lineFeed && bytes[at] !== carriageReturn) at++
  return Math.min(at + 1, bytes.length)
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

interface PlacedRow {
  readonly text: TextSource
  readonly fields: readonly string[]
  /** Its first byte in the text. */
  readonly start: number
  /** Whether it is UTF-8. */
  readonly isText: boolean
}

function checkNames(row: PlacedRow): readonly string[] {
  const { fields: names, isText } = row
  if (!isText) throw notUtf8(row)
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice === undefined) return names
  throw wrong(row, 'columns of different names', place => `${JSON.stringify(twice)} twice in ${place}`)
}

/** Undefined when there is none and it is to be passed over. */
function toRecord(row: PlacedRow, names: readonly string[]): DataRecord | undefined {
  const { fields, isText, text } = row
  if (!isText) {
    text.bad.add(() => notUtf8(row))
    return undefined
  }
  if (fields.length !== names.length) {
    const expected = `${names.length} fields in each row, as in the first`
    text.bad.add(() => wrong(row, expected, place => `${fields.length} in ${place}`))
    return undefined
  }
  const record: Record<string, unknown> = {}
  for (let i = 0; i < names.length; i++) setColumn(record, names[i] ?? '', fields[i])
  return record
}

function notUtf8(row: PlacedRow): FormatError {
  return wrong(row, 'UTF-8', place => `other bytes in the row of ${place}`)
}

function wrong({ text, start }: PlacedRow, expected: string, found: (place: string) => string): FormatError {
  const { place, offset } = text.place(start)
  return new FormatError({ file: text.file, offset, expected, found: found(place) })
}
