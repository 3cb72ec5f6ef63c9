import type { AsyncBuffer, ColumnMetaData } from 'hyparquet'

/** What the pages of one column of a row group may hold together, decompressed. */
const limits = { bytes: 1 << 30, values: 1 << 26 }

/**
 * Walks over the page headers of a column chunk and throws where one claims what cannot be: the library that decodes
 * the pages believes their counts and sizes, and a single changed byte would make it allocate without end.
 */
export async function checkPages(file: AsyncBuffer, column: ColumnMetaData | undefined): Promise<void> {
  if (!column) throw new RangeError('a column without a description')
  const { parquetHeader } = await import('hyparquet/src/column.js')
  const { data_page_offset, dictionary_page_offset, total_compressed_size, num_values } = column
  const isFirst =
    dictionary_page_offset !== undefined && dictionary_page_offset > 0n && dictionary_page_offset < data_page_offset
  const start = Number(isFirst ? dictionary_page_offset : data_page_offset)
  const length = Number(total_compressed_size)
  if (num_values > limits.values) throw new RangeError(`a column of ${num_values} values`)
  const reader = { view: new DataView(await file.slice(start, start + length)), offset: 0 }
  let values = 0
  let bytes = 0
  // The last byte alone cannot be a page; the decoder stops there, too.
  while (reader.offset < length - 1) {
    const at = start + reader.offset
    const header = parquetHeader(reader)
    const count =
      (header.data_page_header ?? header.data_page_header_v2 ?? header.dictionary_page_header)?.num_values ?? 0
    const isData = header.dictionary_page_header === undefined
    bytes += header.uncompressed_page_size
    if (isData) values += count
    const { repetition_levels_byte_length: repetitions = -1, definition_levels_byte_length: definitions = -1 } =
      header.data_page_header_v2 ?? { repetition_levels_byte_length: 0, definition_levels_byte_length: 0 }
    const isRight =
      isSize(header.compressed_page_size, length - reader.offset) &&
      isSize(header.uncompressed_page_size, limits.bytes) &&
      isSize(bytes, limits.bytes) &&
      isSize(repetitions, header.compressed_page_size) &&
      isSize(definitions, header.compressed_page_size - repetitions) &&
      isSize(count, limits.values) &&
      isSize(values, Number(num_values))
    if (!isRight)
      throw new RangeError(`a page of ${count} values in ${header.compressed_page_size} bytes at byte ${at}`)
    reader.offset += header.compressed_page_size
  }
}

function isSize(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= limit
}
