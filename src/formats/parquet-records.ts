import { type FileHandle, open } from 'node:fs/promises'
import type { AsyncBuffer, Compressors, RowGroup } from 'hyparquet'
import { FormatError, UnsupportedError } from '../errors.ts'
import { checkPages } from './parquet-pages.ts'
import type { ReadRecordsOptions, RecordBatch } from './record-batch.ts'

/** Largest row group that is read, in bytes before compression, and in rows: a row group has to fit in memory. */
export const maxRowGroup = { bytes: 1 << 30, rows: 1 << 22 }

/**
 * Rows of a Parquet file, one row group after another; memory is the largest row group. The library that reads the
 * format (hyparquet, with snappy, gzip, brotli, zstd and lz4) is loaded on the first call.
 * @throws FormatError when the file is damaged; UnsupportedError when a row group is larger than `maxRowGroup`.
 */
export async function* readParquetRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const [{ parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ])
  const bounded = boundCompressors(compressors)
  const handle = await open(file, 'r')
  try {
    const bytes = await asBuffer(handle)
    const footer = await orFormatError(file, 'a Parquet footer', async () => {
      const metadata = await parquetMetadataAsync(bytes)
      return { metadata, names: parquetSchema(metadata).children.map(child => child.element.name) }
    })
    const { metadata, names } = footer
    const asked = names.filter(name => options.columns?.includes(name))
    const columns = asked.length > 0 ? asked : names
    let rowStart = 0
    for (const [group, rowGroup] of metadata.row_groups.entries()) {
      options.signal?.throwIfAborted()
      refuseTooLarge(rowGroup, `${file}: row group ${group}`)
      const rows = Number(rowGroup.num_rows)
      const records = await orFormatError(file, `${rows} rows in row group ${group}`, async () => {
        for (const { meta_data } of rowGroup.columns) {
          if (columns.includes(meta_data?.path_in_schema[0] ?? '')) await checkPages(bytes, meta_data)
        }
        const rowEnd = rowStart + rows
        return parquetReadObjects({ file: bytes, metadata, compressors: bounded, columns, rowStart, rowEnd })
      })
      rowStart += rows
      const bytesRead = Math.floor((bytes.byteLength * rowStart) / Math.max(rowStart, Number(metadata.num_rows)))
      yield { file, records, bytesRead, locate: index => ({ place: `row group ${group}, row ${index}` }) }
    }
  } finally {
    await handle.close()
  }
}

async function asBuffer(handle: FileHandle): Promise<AsyncBuffer> {
  const { size } = await handle.stat()
  return {
    byteLength: size,
    async slice(start, end = size) {
      if (!(start >= 0 && end <= size && start <= end)) throw new RangeError(`bytes ${start} to ${end} of ${size}`)
      const piece = new Uint8Array(end - start)
      for (let done = 0; done < piece.length; ) {
        const { bytesRead } = await handle.read(piece, done, piece.length - done, start + done)
        if (bytesRead === 0) throw new RangeError(`the file ends at byte ${start + done}`)
        done += bytesRead
      }
      return piece.buffer
    },
  }
}

function refuseTooLarge({ num_rows, total_byte_size }: RowGroup, where: string): void {
  if (total_byte_size <= maxRowGroup.bytes && num_rows <= maxRowGroup.rows) return
  throw new UnsupportedError(
    `${where} has ${num_rows} rows in ${total_byte_size} bytes; ${maxRowGroup.rows} rows in ${maxRowGroup.bytes} bytes are read at most.`,
    { hint: 'Write the file again with smaller row groups (pyarrow: row_group_size=20000).' },
  )
}

/** A page says how long it is once decompressed; that is checked before it is believed. */
function boundCompressors(compressors: Compressors): Compressors {
  const bound = (decompress: Decompress): Decompress => {
    return (input, outputLength) => {
      if (outputLength <= maxRowGroup.bytes) return decompress(input, outputLength)
      throw new RangeError(`a page of ${outputLength} bytes`)
    }
  }
  return Object.fromEntries(Object.entries(compressors).map(([codec, decompress]) => [codec, bound(decompress)]))
}

type Decompress = NonNullable<Compressors[keyof Compressors]>

/** What the library throws on a damaged file are errors of all kinds; errors of the disk pass as they are. */
async function orFormatError<T>(file: string, expected: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall) throw cause
    throw new FormatError({ file, expected, found: (cause as Error).message, cause })
  }
}
