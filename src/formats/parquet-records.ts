import { type FileHandle, open } from 'node:fs/promises'
import type { AsyncBuffer, Compressors, FileMetaData, RowGroup, SchemaTree } from 'hyparquet'
import { FormatError, UnsupportedError } from '../errors.ts'
import { openPages, type PageReader } from './parquet-pages.ts'
import { gatherBadRows, type ReadRecordsOptions, type RecordBatch, setColumn } from './record-batch.ts'

/** What is held of a row group at a time: bytes of pages, decompressed, over all columns, and values of one page. */
export const parquetLimits = { bytes: 256 << 20, values: 1 << 22 }

/** Rows of one batch. */
const batchRows = 4096

/**
 * Rows of a Parquet file. Of a row group, however large, one page of each column is read at a time, of at most 256 MiB
 * together. The library that decodes pages (hyparquet, with snappy, gzip, brotli, zstd and lz4) is loaded on the first
 * call. Text that is not UTF-8 is given as its bytes; of a damaged row group the rest may be passed over.
 * @throws FormatError when the file is damaged; UnsupportedError when pages are larger than `parquetLimits`.
 */
export async function* readParquetRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const [{ parquetMetadataAsync, parquetSchema }, { compressors: given }, { decompress }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
    import('fzstd'),
  ])
  // Its own decoder of zstd makes room for whatever comes out; this one is bound by what the page says, which is checked.
  const compressors: Compressors = { ...given, ZSTD: (input, length) => decompress(input, new Uint8Array(length)) }
  const handle = await open(file, 'r')
  try {
    const bytes = await asBuffer(handle)
    const { metadata, schema } = await readFooter(file, async () => {
      const metadata = await parquetMetadataAsync(bytes)
      return { metadata, schema: parquetSchema(metadata) }
    })
    const asked = schema.children.filter(({ element }) => options.columns?.includes(element.name))
    const columns = asked.length > 0 ? asked : schema.children
    const bad = gatherBadRows(options)
    const allRows = Math.max(1, Number(metadata.num_rows))
    let rowsBefore = 0
    for (const [group, rowGroup] of metadata.row_groups.entries()) {
      const rows = Number(rowGroup.num_rows)
      let done = 0
      const bytesRead = () => Math.floor(bytes.byteLength * Math.min(1, (rowsBefore + done) / allRows))
      try {
        const source = { bytes, schema, columns, rowGroup, compressors, where: `${file}: row group ${group}` }
        for await (const records of readGroup(source)) {
          options.signal?.throwIfAborted()
          const first = done
          done += records.length
          const locate = (index: number) => ({ place: `row group ${group}, row ${first + index}` })
          yield { file, records, ...bad.take(), bytesRead: bytesRead(), locate }
        }
      } catch (cause) {
        if (options.signal?.aborted || !isDamage(cause)) throw cause
        const expected = `${rows} rows in row group ${group}`
        const found = `from row ${done} on ${(cause as Error).message}`
        bad.add(() => new FormatError({ file, expected, found, cause }), rows - done)
        done = rows
        yield {
          file,
          records: [],
          ...bad.take(),
          bytesRead: bytesRead(),
          locate: () => ({ place: `row group ${group}` }),
        }
      }
      rowsBefore += rows
    }
  } finally {
    await handle.close()
  }
}

interface GroupSource {
  readonly bytes: AsyncBuffer
  readonly schema: SchemaTree
  readonly columns: readonly SchemaTree[]
  readonly rowGroup: RowGroup
  readonly compressors: Compressors
  /** File and row group, for messages. */
  readonly where: string
}

/** Rows of a row group; what damage throws are errors of all kinds. */
async function* readGroup(source: GroupSource): AsyncGenerator<Record<string, unknown>[]> {
  const { columns, rowGroup } = source
  const rows = Number(rowGroup.num_rows)
  if (!(Number.isSafeInteger(rows) && rows >= 0)) throw new RangeError(`${rows} rows`)
  const { assembleNested } = await import('hyparquet/src/assemble.js')
  const { DEFAULT_PARSERS } = await import('hyparquet/src/convert.js')
  const leaves = await openLeaves(source)
  for (let done = 0; done < rows; ) {
    for (const leaf of leaves) {
      if (leaf.at < leaf.rows.length) continue
      leaf.rows = (await leaf.next()) ?? []
      leaf.at = 0
      if (leaf.rows.length === 0) throw new RangeError(`no more than ${done} in column ${leaf.name}`)
    }
    const count = leaves.reduce(
      (least, { rows, at }) => Math.min(least, rows.length - at),
      Math.min(batchRows, rows - done),
    )
    const parts = new Map(leaves.map(leaf => [leaf.path.join('.'), leaf.rows.slice(leaf.at, leaf.at + count)]))
    for (const leaf of leaves) leaf.at += count
    const records = Array.from({ length: count }, (): Record<string, unknown> => ({}))
    for (const column of columns) {
      const { name } = column.element
      if (column.children.length > 0) assembleNested(parts, column, DEFAULT_PARSERS)
      const values = parts.get(name)
      if (values?.length !== count)
        throw new RangeError(`${values?.length ?? 0} values for ${count} rows in column ${name}`)
      for (let i = 0; i < count; i++) setColumn(records[i] ?? {}, name, values[i])
    }
    done += count
    yield records
  }
}

interface Leaf extends PageReader {
  readonly name: string
  /** Rows of its page, and how many of them are done with. */
  rows: readonly unknown[]
  at: number
}

async function openLeaves({ bytes, schema, columns, rowGroup, compressors, where }: GroupSource): Promise<Leaf[]> {
  const { getTreePath } = await import('hyparquet/src/schema.js')
  const leaves: Leaf[] = []
  for (const { meta_data: column } of rowGroup.columns) {
    if (!column) throw new RangeError('a column without a description')
    const [top] = column.path_in_schema
    if (!columns.some(({ element }) => element.name === top)) continue
    const name = JSON.stringify(column.path_in_schema.join('.'))
    const hold = (page: number, values: number) => {
      const held = leaves.reduce((total, leaf) => total + leaf.heldBytes(), page)
      refuseTooLarge(`${where}, column ${name}`, { page, held, values })
    }
    const schemaPath = getTreePath(schema, column.path_in_schema)
    const pages = await openPages({ file: bytes, column, schemaPath, compressors, hold })
    leaves.push({ ...pages, name, rows: [], at: 0, next: () => named(name, pages.next) })
  }
  if (leaves.length === 0) throw new RangeError('no columns')
  return leaves
}

function refuseTooLarge(where: string, { page, held, values }: { page: number; held: number; values: number }): void {
  const { bytes, values: mostValues } = parquetLimits
  if (held <= bytes && values <= mostValues) return
  throw new UnsupportedError(
    `${where} has a page of ${values} values in ${page} bytes, which makes ${held} at a time; pages of ${mostValues} values, and of ${bytes} bytes over all columns, are read at most.`,
    { hint: 'Write the file again with smaller pages (pyarrow: data_page_size=1048576, row_group_size=20000).' },
  )
}

async function named<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    if (!isDamage(cause)) throw cause
    throw new RangeError(`${(cause as Error).message} in column ${name}`, { cause })
  }
}

/** Errors of the disk pass as they are, and so do those that say what is wrong already. */
function isDamage(error: unknown): boolean {
  return !(error instanceof UnsupportedError) && !(error as NodeJS.ErrnoException).syscall
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

async function readFooter(file: string, read: () => Promise<Footer>): Promise<Footer> {
  try {
    return await read()
  } catch (cause) {
    if (!isDamage(cause)) throw cause
    throw new FormatError({ file, expected: 'a Parquet footer', found: (cause as Error).message, cause })
  }
}

interface Footer {
  readonly metadata: FileMetaData
  readonly schema: SchemaTree
}
