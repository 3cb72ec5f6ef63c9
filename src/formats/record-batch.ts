import type { FormatError } from '../errors.ts'
import type { Place } from './line-place.ts'

/** One row of a corpus: its columns by name. */
export type DataRecord = Readonly<Record<string, unknown>>

/** Rows that were read together, in the order of the file. */
export interface RecordBatch {
  readonly file: string
  readonly records: readonly DataRecord[]
  /** What was passed over since the batch before; absent when there is nothing, and without `skipBad`. */
  readonly bad?: BadRecords | undefined
  /** Bytes of the file, as it is stored, that are done with once these rows are. */
  readonly bytesRead: number
  /** Where row `index` of this batch stands. */
  locate(index: number): Place
}

/** Damaged rows that were passed over. */
export interface BadRecords {
  readonly rows: number
  /** What is wrong with them: of a file's first ones only, for to find a line is a long way. */
  readonly errors: readonly FormatError[]
}

/** How a corpus file is read. */
export interface ReadRecordsOptions {
  /** Stops the reading with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Columns that are needed: a container that stores columns apart leaves the others unread. Default: all. */
  readonly columns?: readonly string[] | undefined
  /** Pass over damaged rows, counting them, where the next row can be found. Default: they are errors. */
  readonly skipBad?: boolean | undefined
}

/** Damaged rows of one file that are named, not only counted. */
const namedRows = 5

/** Gathers the damaged rows of a file, or, unless they are to be passed over, throws the first. */
export interface BadRows {
  /** Counts `rows`, one by default; `describe` makes their error, if it is wanted. */
  add(describe: () => FormatError, rows?: number): void
  /** What was gathered since it was last asked for, as a part of a batch. */
  take(): { readonly bad?: BadRecords }
}

export function gatherBadRows({ skipBad = false }: ReadRecordsOptions): BadRows {
  let left = namedRows
  let rows = 0
  let errors: FormatError[] = []
  return {
    add(describe, count = 1) {
      if (!skipBad) throw describe()
      rows += count
      if (left-- > 0) errors.push(describe())
    },
    take() {
      if (rows === 0) return {}
      const bad = { rows, errors }
      rows = 0
      errors = []
      return { bad }
    },
  }
}

/** Sets a column of a row in the making; one named `__proto__` is a column like any other. */
export function setColumn(record: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') record[name] = value
  else Object.defineProperty(record, name, { value, enumerable: true, configurable: true, writable: true })
}
