import { FormatError } from '../errors.ts'
import type { RecordBatch } from '../formats/record-batch.ts'
import type { Row } from './handlers/handler.ts'

/** Row `index` of a batch, whose columns are checked as they are asked for. */
export function createRow(batch: RecordBatch, index: number): Row {
  const record = batch.records[index] ?? {}
  const value = (column: string) => (Object.hasOwn(record, column) ? record[column] : undefined)
  const error: Row['error'] = (column, expected, found) => {
    const { place, offset } = batch.locate(index)
    const columns = Object.keys(record).join(', ') || 'none'
    const held = value(column)
    const without = `no such column in ${place}; its columns are ${columns}`
    const what = held === undefined ? without : `${found ?? kindOf(held)} in ${place}`
    const where = `${expected} in column ${JSON.stringify(column)} of every row`
    return new FormatError({ file: batch.file, offset, expected: where, found: what })
  }
  return {
    value,
    error,
    text(column) {
      const held = value(column)
      if (typeof held === 'string') return held
      throw error(column, 'text')
    },
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (value instanceof Uint8Array) return 'bytes that are not UTF-8'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}
