import { crc32 } from 'node:zlib'

/** What a zip record says about itself; every field may be a lie. */
export interface Record {
  readonly name: string
  readonly data?: Uint8Array
  /** Name in the local header; default `name`. */
  readonly localName?: string
  readonly method?: number
  readonly flags?: number
  /** Sizes in the directory; default the true one. */
  readonly size?: number
  readonly compressed?: number
  readonly crc?: number
  /** Position of the local header in the directory; default the true one. */
  readonly header?: number
}

/** A zip archive by the book (stored, no padding), with the lies of `records` and `end` in it. */
export function buildZip(
  records: readonly Record[],
  end: { count?: number; size?: number; offset?: number; comment?: number } = {},
): Buffer {
  const parts: Buffer[] = []
  const entries: Buffer[] = []
  let at = 0
  for (const record of records) {
    const data = Buffer.from(record.data ?? [])
    const crc = record.crc ?? crc32(data)
    const [name, localName] = [Buffer.from(record.name), Buffer.from(record.localName ?? record.name)]
    const local = Buffer.alloc(30)
    local.writeUInt32LE(0x04034b50, 0)
    local.writeUInt32LE(crc, 14)
    local.writeUInt32LE(data.length, 18)
    local.writeUInt32LE(data.length, 22)
    local.writeUInt16LE(localName.length, 26)
    const entry = Buffer.alloc(46)
    entry.writeUInt32LE(0x02014b50, 0)
    entry.writeUInt16LE(record.flags ?? 0, 8)
    entry.writeUInt16LE(record.method ?? 0, 10)
    entry.writeUInt32LE(crc, 16)
    entry.writeUInt32LE(record.compressed ?? record.size ?? data.length, 20)
    entry.writeUInt32LE(record.size ?? data.length, 24)
    entry.writeUInt16LE(name.length, 28)
    entry.writeUInt32LE(record.header ?? at, 42)
    parts.push(local, localName, data)
    entries.push(entry, name)
    at += 30 + localName.length + data.length
  }
  const directory = Buffer.concat(entries)
  const tail = Buffer.alloc(22)
  tail.writeUInt32LE(0x06054b50, 0)
  tail.writeUInt16LE(end.count ?? records.length, 8)
  tail.writeUInt16LE(end.count ?? records.length, 10)
  tail.writeUInt32LE(end.size ?? directory.length, 12)
  tail.writeUInt32LE(end.offset ?? at, 16)
  tail.writeUInt16LE(end.comment ?? 0, 20)
  return Buffer.concat([...parts, directory, tail])
}

/** Bytes of a pickle, from opcodes and texts. */
export function pickleBytes(...parts: (string | number | Uint8Array)[]): Buffer {
  return Buffer.concat([
    Buffer.of(0x80, 2),
    ...parts.map(part => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part as Uint8Array))),
  ])
}

/** A `.pt` file of one folder with this pickle and these storages. */
export function buildTorchFile(
  pickle: Uint8Array,
  storages: Readonly<globalThis.Record<string, Uint8Array>> = {},
): Buffer {
  return buildZip([
    { name: 'root/data.pkl', data: pickle },
    ...Object.entries(storages).map(([key, data]) => ({ name: `root/data/${key}`, data })),
  ])
}
