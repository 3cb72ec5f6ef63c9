import type { Place } from './line-place.ts'

/** One row of a corpus: its columns by name. */
export type DataRecord = Readonly<Record<string, unknown>>

/** Rows that were read together, in the order of the file. */
export interface RecordBatch {
  readonly file: string
  readonly records: readonly DataRecord[]
  /** Bytes of the file, as it is stored, that are done with once these rows are. */
  readonly bytesRead: number
  /** Where row `index` of this batch stands. */
  locate(index: number): Place
}

/** How a corpus file is read. */
export interface ReadRecordsOptions {
  /** Stops the reading with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Columns that are needed: a container that stores columns apart leaves the others unread. Default: all. */
  readonly columns?: readonly string[] | undefined
}

/** Sets a column of a row in the making; one named `__proto__` is a column like any other. */
export function setColumn(record: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== '__proto__') record[name] = value
  else Object.defineProperty(record, name, { value, enumerable: true, configurable: true, writable: true })
}
