import { FormatError } from '../errors.ts'
import type { RecordBatch } from '../formats/record-batch.ts'
import type { Row } from './handlers/handler.ts'

/** Row `index` of a batch, whose columns are checked as they are asked for. */
export function createRow(batch: RecordBatch, index: number): Row {
  const record = batch.records[index] ?? {}
  return {
    text(column) {
      const value = Object.hasOwn(record, column) ? record[column] : undefined
      if (typeof value === 'string') return value
      const { place, offset } = batch.locate(index)
      const columns = Object.keys(record).join(', ') || 'none'
      const kind = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`
      throw new FormatError({
        file: batch.file,
        offset,
        expected: `text in column ${JSON.stringify(column)} of every row`,
        found: value === undefined ? `no such column in ${place}; its columns are ${columns}` : `${kind} in ${place}`,
      })
    },
  }
}
