import { isUtf8 } from 'node:buffer'
import type { AsyncBuffer, ColumnMetaData, Compressors, PageHeader, ParquetParsers, SchemaTree } from 'hyparquet'

/** The rows of one column chunk, page by page. */
export interface PageReader {
  /** Path of the column, from the top. */
  readonly path: readonly string[]
  /** The rows of the next page, or pages where a row goes on; undefined when there are no more. */
  next(): Promise<readonly unknown[] | undefined>
  /** Bytes of its pages, decompressed, that are held. */
  heldBytes(): number
}

export interface ColumnSource {
  readonly file: AsyncBuffer
  readonly column: ColumnMetaData
  /** From the root down to the column. */
  readonly schemaPath: SchemaTree[]
  readonly compressors: Compressors
  /** Says what a page is about to take, which may be refused. */
  hold(bytes: number, values: number): void
}

/**
 * Reads a column chunk one page at a time. Every count and size of a page is checked before the library that decodes it
 * sees it: it believes them, and a single changed byte would make it allocate without end.
 */
export async function openPages({ file, column, schemaPath, compressors, hold }: ColumnSource): Promise<PageReader> {
  const [{ parquetHeader, readPage }, { convert, DEFAULT_PARSERS }, { getMaxRepetitionLevel }] = await Promise.all([
    import('hyparquet/src/column.js'),
    import('hyparquet/src/convert.js'),
    import('hyparquet/src/schema.js'),
  ])
  const { data_page_offset, dictionary_page_offset, total_compressed_size, codec, type } = column
  const element = (schemaPath.at(-1) as SchemaTree).element
  const decoder = {
    ...{ pathInSchema: column.path_in_schema, type, element, schemaPath, codec, compressors },
    parsers: { ...DEFAULT_PARSERS, stringFromBytes: textOrBytes } satisfies ParquetParsers,
  }
  const isNested = getMaxRepetitionLevel(schemaPath) > 0
  const hasDictionary =
    dictionary_page_offset !== undefined && dictionary_page_offset > 0n && dictionary_page_offset < data_page_offset
  const start = Number(hasDictionary ? dictionary_page_offset : data_page_offset)
  const end = start + Number(total_compressed_size)
  let valuesLeft = Number(column.num_values)
  let at = start
  let dictionary: ReturnType<typeof convert> | undefined
  let dictionaryBytes = 0
  let pageBytes = 0
  // A row of lists may go on in the next page.
  let open: unknown[] = []

  async function readHeader(): Promise<{ header: PageHeader; length: number }> {
    for (let length = Math.min(headerBytes, end - at); ; length = Math.min(8 * length, end - at)) {
      const reader = { view: new DataView(await file.slice(at, at + length)), offset: 0 }
      try {
        return { header: parquetHeader(reader), length: reader.offset }
      } catch (error) {
        // Statistics of a page may be long texts.
        if (!(error instanceof RangeError) || length === end - at) throw error
      }
    }
  }

  return {
    path: column.path_in_schema,
    heldBytes: () => dictionaryBytes + pageBytes,
    async next() {
      pageBytes = 0
      // The last byte alone cannot be a page.
      while (at < end - 1) {
        const { header, length } = await readHeader()
        const count = checkHeader(header, { at, left: end - at - length, values: valuesLeft })
        const { uncompressed_page_size, compressed_page_size, dictionary_page_header } = header
        hold(uncompressed_page_size, count)
        const page = await file.slice(at + length, at + length + compressed_page_size)
        const reader = { view: new DataView(page), offset: 0 }
        at += length + compressed_page_size
        if (dictionary_page_header) {
          const { data } = readPage(reader, header, decoder, undefined, undefined, 0)
          dictionary = data && convert(data, decoder)
          dictionaryBytes = uncompressed_page_size
          continue
        }
        valuesLeft -= count
        if (count === 0) continue
        pageBytes += uncompressed_page_size
        const { data = [] } = readPage(reader, header, decoder, dictionary, isNested ? open : undefined, 0)
        const rows = Array.isArray(data) ? data : Array.from<unknown>(data)
        open = isNested ? rows.splice(-1) : []
        if (rows.length > 0) return rows
      }
      const rows = open
      open = []
      return rows.length > 0 ? rows : undefined
    },
  }
}

/** Text; what is not UTF-8 stays bytes, so that only whoever wants text of it is disappointed. */
function textOrBytes(bytes: Uint8Array | undefined): unknown {
  if (!bytes) return bytes
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  return text.includes('\ufffd') && !isUtf8(bytes) ? bytes.slice() : text
}

/** Most headers are far shorter. */
const headerBytes = 4096

/** Values of a page that can be. @throws RangeError for one that cannot. */
function checkHeader(
  header: PageHeader,
  { at, left, values }: { readonly at: number; readonly left: number; readonly values: number },
): number {
  const { compressed_page_size, uncompressed_page_size, data_page_header_v2, dictionary_page_header } = header
  const kind = header.data_page_header ?? data_page_header_v2 ?? dictionary_page_header
  if (!kind) throw new RangeError(`a page of type ${header.type} at byte ${at}`)
  const { num_values } = kind
  const { repetition_levels_byte_length: repetitions = -1, definition_levels_byte_length: definitions = -1 } =
    data_page_header_v2 ?? { repetition_levels_byte_length: 0, definition_levels_byte_length: 0 }
  const isRight =
    isSize(compressed_page_size, left) &&
    isSize(uncompressed_page_size, 2 ** 31) &&
    isSize(repetitions, compressed_page_size) &&
    isSize(definitions, compressed_page_size - repetitions) &&
    isSize(num_values, dictionary_page_header ? uncompressed_page_size : values)
  if (isRight) return num_values
  throw new RangeError(`a page of ${num_values} values in ${compressed_page_size} bytes at byte ${at}`)
}

function isSize(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= limit
}
