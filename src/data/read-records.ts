import { stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { InputError, UnsupportedError } from '../errors.ts'
import { readArrowRecords } from '../formats/arrow-records.ts'
import { readCsvRecords } from '../formats/csv-records.ts'
import { readJsonRecords } from '../formats/json-records.ts'
import { readParquetRecords } from '../formats/parquet-records.ts'
import type { ReadRecordsOptions, RecordBatch } from '../formats/record-batch.ts'
import { readTextRecords } from '../formats/text-records.ts'

type Reader = (file: string, options: ReadRecordsOptions) => AsyncGenerator<RecordBatch>

const textReaders: Readonly<Record<string, Reader>> = {
  '.json': readJsonRecords,
  '.jsonl': readJsonRecords,
  '.csv': readCsvRecords,
  '.txt': readTextRecords,
}

const readers: Readonly<Record<string, Reader>> = {
  ...textReaders,
  '.arrow': readArrowRecords,
  '.parquet': readParquetRecords,
}

/**
 * Rows of these files, in their order and in that of the list; the container goes by the extension. A `.json` file may
 * hold JSON lines; `.json`, `.jsonl`, `.csv` and `.txt` may be compressed (`.gz`, `.zst`). Memory is that of one batch,
 * as the readers of `formats/` bound it.
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

/** Extensions of files that rows are read from, as messages name them. */
export const readableExtensions = `${Object.keys(readers).join(', ')}; ${Object.keys(textReaders).join(', ')} also with .gz or .zst`

/** What a file is read as, `.jsonl` or `.jsonl.gz`, in small letters; undefined when it is not read. */
export function containerOf(file: string): string | undefined {
  const last = extname(file).toLowerCase()
  if (last !== '.gz' && last !== '.zst') return Object.hasOwn(readers, last) ? last : undefined
  const inner = extname(file.slice(0, -last.length)).toLowerCase()
  return Object.hasOwn(textReaders, inner) ? inner + last : undefined
}

function readerOf(file: string): Reader {
  const reader = readers[containerOf(file)?.replace(/\.(gz|zst)$/, '') ?? '']
  if (reader) return reader
  throw new UnsupportedError(
    `${file}: rows are read from files with ${readableExtensions}, not from ${extname(file) || 'this one'}.`,
  )
}
