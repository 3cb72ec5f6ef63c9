/** A table of a flatbuffer: fields by number, each absent or at some byte. */
export interface FlatTable {
  readonly bytes: Buffer
  readonly at: number
}

/** The root table. Every read throws a RangeError when it would leave `bytes`; offsets only lead onwards. */
export function rootTable(bytes: Buffer): FlatTable {
  return { bytes, at: bytes.readUInt32LE(0) }
}

/** Where field `index` of a table stands; undefined when it is absent. */
export function fieldAt({ bytes, at }: FlatTable, index: number): number | undefined {
  const vtable = at - bytes.readInt32LE(at)
  const entry = 4 + 2 * index
  if (entry >= bytes.readUInt16LE(vtable)) return undefined
  const offset = bytes.readUInt16LE(vtable + entry)
  return offset === 0 ? undefined : at + offset
}

export function byteField(table: FlatTable, index: number): number {
  const at = fieldAt(table, index)
  return at === undefined ? 0 : table.bytes.readUInt8(at)
}

export function shortField(table: FlatTable, index: number): number {
  const at = fieldAt(table, index)
  return at === undefined ? 0 : table.bytes.readInt16LE(at)
}

export function intField(table: FlatTable, index: number): number {
  const at = fieldAt(table, index)
  return at === undefined ? 0 : table.bytes.readInt32LE(at)
}

/** @throws RangeError when the value is negative or above 2^53, which no length or offset is. */
export function longField(table: FlatTable, index: number): number {
  const at = fieldAt(table, index)
  return at === undefined ? 0 : readLength(table.bytes, at)
}

/** A 64-bit length or offset. @throws RangeError when it is negative or above 2^53. */
export function readLength(bytes: Buffer, at: number): number {
  const value = bytes.readBigInt64LE(at)
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`a length of ${value}`)
  return Number(value)
}

export function tableField(table: FlatTable, index: number): FlatTable | undefined {
  const at = fieldAt(table, index)
  return at === undefined ? undefined : { bytes: table.bytes, at: at + table.bytes.readUInt32LE(at) }
}

export function textField(table: FlatTable, index: number): string {
  const { start, count } = vectorField(table, index, 1)
  return table.bytes.toString('utf8', start, start + count)
}

/** Where the elements of a vector begin, and their number. @throws RangeError when they do not fit. */
export function vectorField(table: FlatTable, index: number, elementBytes: number): { start: number; count: number } {
  const { bytes } = table
  const at = fieldAt(table, index)
  if (at === undefined) return { start: 0, count: 0 }
  const start = at + bytes.readUInt32LE(at)
  const count = bytes.readUInt32LE(start)
  if (start + 4 + count * elementBytes > bytes.length)
    throw new RangeError(`${count} elements in ${bytes.length} bytes`)
  return { start: start + 4, count }
}

export function tablesField(table: FlatTable, index: number): FlatTable[] {
  const { bytes } = table
  const { start, count } = vectorField(table, index, 4)
  return Array.from({ length: count }, (_, i) => {
    const at = start + 4 * i
    return { bytes, at: at + bytes.readUInt32LE(at) }
  })
}
