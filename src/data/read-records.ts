import { stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { InputError, UnsupportedError } from '../errors.ts'
import { readJsonRecords } from '../formats/json-records.ts'
import { readParquetRecords } from '../formats/parquet-records.ts'
import type { ReadRecordsOptions, RecordBatch } from '../formats/record-batch.ts'

type Reader = (file: string, options: ReadRecordsOptions) => AsyncGenerator<RecordBatch>

const readers: Readonly<Record<string, Reader>> = {
  '.json': readJsonRecords,
  '.jsonl': readJsonRecords,
  '.parquet': readParquetRecords,
}

/**
 * Rows of these files, in their order and in that of the list; the container goes by the extension. A `.json` file may
 * hold JSON lines. Memory is that of one batch, as the readers of `formats/` bound it.
 */
export async function* readRecords(
  files: readonly string[],
  options: ReadRecordsOptions = {},
): AsyncGenerator<RecordBatch> {
  for (const file of files) yield* readerOf(file)(file, options)
}

/** Bytes of all files together. @throws InputError when one is missing; UnsupportedError for an unknown extension. */
export async function measureFiles(files: readonly string[]): Promise<number> {
  if (files.length === 0) throw new InputError('There is no file to read.', { field: 'files' })
  let total = 0
  for (const file of files) {
    readerOf(file)
    const found = await stat(file).catch(() => undefined)
    if (!found?.isFile()) throw new InputError(`${file}: there is no such file.`, { field: 'files' })
    total += found.size
  }
  return total
}

function readerOf(file: string): Reader {
  const reader = readers[extname(file).toLowerCase()]
  if (reader) return reader
  throw new UnsupportedError(
    `${file}: rows are read from ${Object.keys(readers).join(', ')} files, not from ${extname(file) || 'this one'}.`,
  )
}
