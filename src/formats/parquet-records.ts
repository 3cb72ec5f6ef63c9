import { open } from 'node:fs/promises'
import type { AsyncBuffer } from 'hyparquet'
import { FormatError, UnsupportedError } from '../errors.ts'
import type { ReadRecordsOptions, RecordBatch } from './record-batch.ts'

/** Largest row group that is read, in bytes before compression: a row group has to fit in memory. */
export const maxRowGroupBytes = 1 << 30

/**
 * Rows of a Parquet file, one row group after another; memory is the largest row group. The library that reads the
 * format (hyparquet, with snappy, gzip, brotli, zstd and lz4) is loaded on the first call.
 * @throws FormatError when the file is damaged; UnsupportedError when a row group is larger than 1 GiB.
 */
export async function* readParquetRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const [{ parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ])
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    const bytes: AsyncBuffer = {
      byteLength: size,
      async slice(start, end = size) {
        if (start < 0 || end > size || end < start) throw new RangeError(`bytes ${start} to ${end} of ${size}`)
        const piece = new Uint8Array(end - start)
        await handle.read(piece, 0, piece.length, start)
        return piece.buffer
      },
    }
    const metadata = await orFormatError(file, 'a Parquet footer', () => parquetMetadataAsync(bytes))
    const present = parquetSchema(metadata).children.map(child => child.element.name)
    const columns = options.columns?.filter(column => present.includes(column))
    let rowStart = 0
    for (const [group, { num_rows, total_byte_size }] of metadata.row_groups.entries()) {
      options.signal?.throwIfAborted()
      if (total_byte_size > maxRowGroupBytes) {
        throw new UnsupportedError(
          `${file}: row group ${group} has ${total_byte_size} bytes, more than the ${maxRowGroupBytes} that are read at once.`,
          { hint: 'Write it again with smaller row groups (pyarrow: row_group_size=20000).' },
        )
      }
      const rows = Number(num_rows)
      const range = { file: bytes, metadata, compressors, rowStart, rowEnd: rowStart + rows }
      const records = await orFormatError(file, `${rows} rows in row group ${group}`, () =>
        parquetReadObjects(columns && columns.length > 0 ? { ...range, columns } : range),
      )
      rowStart += rows
      const bytesRead = Math.floor((size * rowStart) / Math.max(1, Number(metadata.num_rows)))
      yield { file, records, bytesRead, locate: index => ({ place: `row group ${group}, row ${index}` }) }
    }
  } finally {
    await handle.close()
  }
}

async function orFormatError<T>(file: string, expected: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code) throw cause
    throw new FormatError({ file, expected, found: (cause as Error).message, cause })
  }
}
