import { isBlank, tryParseRecord } from './json-record.ts'
import type { Place } from './line-place.ts'
import type { BadRows, DataRecord } from './record-batch.ts'

/** Whole lines of a file. */
export interface LinesOptions {
  readonly file: string
  /** Where they begin in the text. */
  readonly offset: number
  /** Where lines that are no rows are put. */
  readonly bad: BadRows
  /** Says where a byte stands. Default: the line of the file. */
  readonly place?: ((offset: number) => Place) | undefined
}

/** The objects of JSON lines, each with its first byte in the text; blank lines are passed over. */
export function parseLines(
  bytes: Buffer,
  { file, offset, bad, place }: LinesOptions,
): { readonly records: readonly DataRecord[]; readonly starts: readonly number[] } {
  const records: DataRecord[] = []
  const starts: number[] = []
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, start)
    const stop = newline < 0 ? bytes.length : newline
    if (!isBlankLine(bytes, start, stop)) {
      const record = tryParseRecord({ bytes, start, stop, file, offset: offset + start, place })
      if (typeof record === 'function') bad.add(record)
      else {
        records.push(record)
        starts.push(offset + start)
      }
    }
    start = stop + 1
  }
  return { records, starts }
}

function isBlankLine(bytes: Buffer, start: number, stop: number): boolean {
  for (let i = start; i < stop; i++) if (!isBlank(bytes[i])) return false
  return true
}
