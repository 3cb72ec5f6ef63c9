import {
  byteField,
  type FlatTable,
  fieldAt,
  intField,
  longField,
  readLength,
  shortField,
  tableField,
  tablesField,
  textField,
  vectorField,
} from './flatbuffer.ts'

/** A column, or a part of one, and how its values are laid out. */
export interface ArrowField {
  readonly name: string
  readonly type: ArrowType
  readonly children: readonly ArrowField[]
}

/** What is read; of the others only the number of buffers is known, so that they can be passed over. */
export type ArrowType =
  | { readonly kind: 'null' | 'bool' | 'struct' }
  | { readonly kind: 'int'; readonly bits: 8 | 16 | 32 | 64; readonly isSigned: boolean }
  | { readonly kind: 'float'; readonly bits: 32 | 64 }
  | { readonly kind: 'text' | 'list'; readonly offsetBytes: 4 | 8 }
  | { readonly kind: 'unread'; readonly name: string; readonly buffers: number }
  | { readonly kind: 'unknown'; readonly name: string }

/** Fields that a schema may have, and how deep they may be nested. */
const limits = { fields: 10_000, depth: 32 }

/** The columns of a schema message. Source: Apache Arrow, format/Schema.fbs. @throws RangeError when it is damaged. */
export function readArrowSchema(schema: FlatTable): ArrowField[] {
  if (shortField(schema, 0) !== 0) throw new RangeError('big-endian values')
  let fields = 0
  const read = (table: FlatTable, depth: number): ArrowField => {
    if (++fields > limits.fields) throw new RangeError(`more than ${limits.fields} fields`)
    if (depth > limits.depth) throw new RangeError(`fields nested more than ${limits.depth} deep`)
    const children = tablesField(table, 5).map(child => read(child, depth + 1))
    const type = tableField(table, 4) === undefined ? readType(table) : dictionaryType
    // A dictionary's values lie elsewhere; in the batch there are only its indices.
    return { name: textField(table, 0), type, children: type === dictionaryType ? [] : children }
  }
  return tablesField(schema, 1).map(field => read(field, 0))
}

const dictionaryType: ArrowType = { kind: 'unread', name: 'dictionary', buffers: 2 }

/** Names as in Schema.fbs's union `Type`, by number, with the buffers of those that are not read. */
const unread: readonly (readonly [string, number?])[] = [
  ['none'],
  ...([['null'], ['int'], ['float16', 2], ['binary', 3], ['utf8'], ['bool'], ['decimal', 2]] as const),
  ...([['date', 2], ['time', 2], ['timestamp', 2], ['interval', 2], ['list'], ['struct'], ['union']] as const),
  ...([
    ['fixed_size_binary', 2],
    ['fixed_size_list', 1],
    ['map', 2],
    ['duration', 2],
    ['large_binary', 3],
  ] as const),
  ...([['large_utf8'], ['large_list'], ['run_end_encoded'], ['binary_view'], ['utf8_view'], ['list_view']] as const),
]

function readType(field: FlatTable): ArrowType {
  const code = byteField(field, 2)
  const type = tableField(field, 3)
  switch (code) {
    case 1:
      return { kind: 'null' }
    case 2: {
      const bits = type ? intField(type, 0) : 0
      if (bits !== 8 && bits !== 16 && bits !== 32 && bits !== 64) throw new RangeError(`integers of ${bits} bits`)
      return { kind: 'int', bits, isSigned: type !== undefined && byteField(type, 1) !== 0 }
    }
    case 3: {
      const precision = type ? shortField(type, 0) : 0
      if (precision !== 0) return { kind: 'float', bits: precision === 1 ? 32 : 64 }
      break
    }
    case 5:
    case 20:
      return { kind: 'text', offsetBytes: code === 5 ? 4 : 8 }
    case 6:
      return { kind: 'bool' }
    case 12:
    case 21:
      return { kind: 'list', offsetBytes: code === 12 ? 4 : 8 }
    case 13:
      return { kind: 'struct' }
  }
  const [name = `type ${code}`, buffers] = unread[code] ?? []
  return buffers === undefined ? { kind: 'unknown', name } : { kind: 'unread', name, buffers }
}

/** A column's own rows, and its buffers, in a record batch. */
export interface ArrowColumn {
  readonly field: ArrowField
  readonly length: number
  readonly nullCount: number
  /** Where the buffers lie in the batch's body. */
  readonly buffers: readonly { readonly start: number; readonly length: number }[]
  readonly children: readonly ArrowColumn[]
}

/** What a record batch message says. */
export interface ArrowBatch {
  readonly rows: number
  readonly isCompressed: boolean
  readonly columns: readonly ArrowColumn[]
}

/**
 * Reads a record batch message: which buffer belongs to which column.
 * @throws RangeError when its counts do not match the schema, or a buffer is not within the body.
 */
export function readArrowBatch(
  batch: FlatTable,
  { fields, bodyLength }: { fields: readonly ArrowField[]; bodyLength: number },
): ArrowBatch {
  const nodes = lengthPairs(batch, 1)
  const buffers = lengthPairs(batch, 2).map(([start, length]) => {
    if (start + length > bodyLength) throw new RangeError(`a buffer up to byte ${start + length} of ${bodyLength}`)
    return { start, length }
  })
  let [node, buffer] = [0, 0]
  const read = (field: ArrowField): ArrowColumn => {
    const [length, nullCount] = nodes[node++] ?? missing('field nodes', nodes.length)
    const first = buffer
    buffer += bufferCount(field)
    if (buffer > buffers.length) missing('buffers', buffers.length)
    return { field, length, nullCount, buffers: buffers.slice(first, buffer), children: field.children.map(read) }
  }
  const isCompressed = fieldAt(batch, 3) !== undefined
  const columns = fields.map(read)
  const rows = longField(batch, 0)
  const wrong = columns.find(column => column.length !== rows)
  if (wrong)
    throw new RangeError(`${wrong.length} values of column ${JSON.stringify(wrong.field.name)} in ${rows} rows`)
  return { rows, isCompressed, columns }
}

function bufferCount({ type, name }: ArrowField): number {
  switch (type.kind) {
    case 'null':
      return 0
    case 'struct':
      return 1
    case 'bool':
    case 'int':
    case 'float':
    case 'list':
      return 2
    case 'text':
      return 3
    case 'unread':
      return type.buffers
    case 'unknown':
      throw new RangeError(`column ${JSON.stringify(name)} of type ${type.name}`)
  }
}

function missing(what: string, count: number): never {
  throw new RangeError(`only ${count} ${what}`)
}

/** Structs of two 64-bit numbers each. */
function lengthPairs(table: FlatTable, index: number): (readonly [number, number])[] {
  const { start, count } = vectorField(table, index, 16)
  return Array.from({ length: count }, (_, i) => {
    const at = start + 16 * i
    return [readLength(table.bytes, at), readLength(table.bytes, at + 8)] as const
  })
}
