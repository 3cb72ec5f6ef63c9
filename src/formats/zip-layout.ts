/** Where each stored file of a zip archive will lie: known before any of its bytes is. */
export interface ZipLayout {
  readonly records: readonly ZipRecord[]
  /** Position of the directory, after the last record. */
  readonly directoryOffset: number
}

export interface ZipRecord {
  readonly name: string
  /** Position of its local header. */
  readonly header: number
  /** Position of its data. */
  readonly offset: number
  readonly byteLength: number
}

const max32 = 0xffffffff

/**
 * Lays out stored files one after another, the data of each at a multiple of `alignment` bytes (up to 64 KiB).
 * The padding is an extra field `FB`, as PyTorch's writer makes it.
 */
export function layoutZip(files: readonly { name: string; byteLength: number }[], alignment: number): ZipLayout {
  const records: ZipRecord[] = []
  let header = 0
  for (const { name, byteLength } of files) {
    const fixed = header + 30 + Buffer.byteLength(name) + (byteLength >= max32 ? 20 : 0) + 4
    const offset = Math.ceil(fixed / alignment) * alignment
    records.push({ name, header, offset, byteLength })
    header = offset + byteLength
  }
  return { records, directoryOffset: header }
}

/** The bytes between a record's `header` and its `offset`, for data whose CRC-32 is `crc`. */
export function zipLocalHeader(record: ZipRecord, crc: number): Uint8Array {
  const name = Buffer.from(record.name)
  const bytes = Buffer.alloc(record.offset - record.header)
  const isLarge = record.byteLength >= max32
  const size = isLarge ? max32 : record.byteLength
  bytes.writeUInt32LE(0x04034b50, 0)
  writeCommon(bytes, 4, { isLarge, crc, compressed: size, byteLength: size, nameLength: name.length })
  bytes.writeUInt16LE(bytes.length - 30 - name.length, 28)
  name.copy(bytes, 30)
  let at = 30 + name.length
  if (isLarge) at = writeWide(bytes, at, [record.byteLength, record.byteLength])
  bytes.write('FB', at)
  bytes.writeUInt16LE(bytes.length - at - 4, at + 2)
  bytes.fill('Z', at + 4)
  return bytes
}

/** The directory at the end of the archive: one entry per record, `crcs` in their order, with zip64 where needed. */
export function zipDirectory(layout: ZipLayout, crcs: readonly number[]): Uint8Array {
  const entries = layout.records.map((record, i) => directoryEntry(record, crcs[i]!))
  const byteLength = entries.reduce((sum, entry) => sum + entry.length, 0)
  const count = entries.length
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(Math.min(count, 0xffff), 8)
  end.writeUInt16LE(Math.min(count, 0xffff), 10)
  end.writeUInt32LE(Math.min(byteLength, max32), 12)
  end.writeUInt32LE(Math.min(layout.directoryOffset, max32), 16)
  const isZip64 = count >= 0xffff || byteLength >= max32 || layout.directoryOffset >= max32
  return Buffer.concat([...entries, ...(isZip64 ? [zip64End(layout.directoryOffset, byteLength, count)] : []), end])
}

function directoryEntry(record: ZipRecord, crc: number): Buffer {
  const name = Buffer.from(record.name)
  const isLarge = record.byteLength >= max32
  const isFar = record.header >= max32
  const wide = [...(isLarge ? [record.byteLength, record.byteLength] : []), ...(isFar ? [record.header] : [])]
  const bytes = Buffer.alloc(46 + name.length + (wide.length > 0 ? 4 + 8 * wide.length : 0))
  const size = isLarge ? max32 : record.byteLength
  bytes.writeUInt32LE(0x02014b50, 0)
  bytes.writeUInt16LE(isLarge || isFar ? 45 : 20, 4)
  writeCommon(bytes, 6, { isLarge: isLarge || isFar, crc, compressed: size, byteLength: size, nameLength: name.length })
  bytes.writeUInt16LE(bytes.length - 46 - name.length, 30)
  bytes.writeUInt32LE(isFar ? max32 : record.header, 42)
  name.copy(bytes, 46)
  if (wide.length > 0) writeWide(bytes, 46 + name.length, wide)
  return bytes
}

// The fields that both headers share: version, flags (UTF-8 names), method, time, CRC-32, sizes, length of the name.
function writeCommon(
  bytes: Buffer,
  at: number,
  fields: { isLarge: boolean; crc: number; compressed: number; byteLength: number; nameLength: number },
): void {
  bytes.writeUInt16LE(fields.isLarge ? 45 : 20, at)
  bytes.writeUInt16LE(0x800, at + 2)
  bytes.writeUInt32LE(fields.crc, at + 10)
  bytes.writeUInt32LE(fields.compressed, at + 14)
  bytes.writeUInt32LE(fields.byteLength, at + 18)
  bytes.writeUInt16LE(fields.nameLength, at + 22)
}

function writeWide(bytes: Buffer, at: number, values: readonly number[]): number {
  bytes.writeUInt16LE(1, at)
  bytes.writeUInt16LE(8 * values.length, at + 2)
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), at + 4 + 8 * i)
  return at + 4 + 8 * values.length
}

function zip64End(offset: number, byteLength: number, count: number): Buffer {
  const bytes = Buffer.alloc(76)
  bytes.writeUInt32LE(0x06064b50, 0)
  bytes.writeBigUInt64LE(44n, 4)
  bytes.writeUInt16LE(45, 12)
  bytes.writeUInt16LE(45, 14)
  bytes.writeBigUInt64LE(BigInt(count), 24)
  bytes.writeBigUInt64LE(BigInt(count), 32)
  bytes.writeBigUInt64LE(BigInt(byteLength), 40)
  bytes.writeBigUInt64LE(BigInt(offset), 48)
  bytes.writeUInt32LE(0x07064b50, 56)
  bytes.writeBigUInt64LE(BigInt(offset + byteLength), 64)
  bytes.writeUInt32LE(1, 72)
  return bytes
}
