/** One row of a corpus: its columns by name. */
export type DataRecord = Readonly<Record<string, unknown>>

/** Rows that were read together, in the order of the file. */
export interface RecordBatch {
  readonly file: string
  readonly records: readonly DataRecord[]
  /** Bytes of the file that are done with once these rows are. */
  readonly bytesRead: number
  /** Where row `index` of this batch stands: `line 12`, or `row group 0, row 7`, with its byte where known. */
  locate(index: number): { readonly place: string; readonly offset?: number }
}

/** How a corpus file is read. */
export interface ReadRecordsOptions {
  /** Stops the reading with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Columns that are needed: a container that stores columns apart leaves the others unread. Default: all. */
  readonly columns?: readonly string[] | undefined
}
