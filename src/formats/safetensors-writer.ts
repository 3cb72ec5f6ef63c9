import { open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { InputError } from '../errors.ts'
import { type FilePlace, writePlace } from './file-place.ts'
import { type TensorInfo, tensorBytes } from './tensor.ts'

/** A safetensors file being filled. */
export interface SafetensorsWriter {
  /** Names in the order in which the tensors lie in the file. */
  readonly order: readonly string[]
  /** Writes the next rows of a tensor; tensors may be filled in turns, and at the same time. */
  write(name: string, bytes: Uint8Array): Promise<void>
  /** Where a tensor's bytes go, for whoever writes them there himself and then says so with `wrote`. */
  place(name: string): FilePlace
  /** Says that all bytes of a tensor are in their place, and what their CRC-32 is. */
  wrote(name: string, crc: number): void
  /**
   * Flushes unless told not to, and closes. Gives each tensor's CRC-32, computed while it was written. Throws
   * InputError when bytes are missing.
   */
  finish(): Promise<ReadonlyMap<string, number>>
  /** Closes without finishing. */
  close(): Promise<void>
}

/**
 * Starts a safetensors file at `path`, which must not exist; complete after `finish`, so write it in a temporary place.
 *
 * Tensors lie in the order of the reference writer, wide types first and then by name, and the header is padded to 8
 * bytes, so that equal tensors and metadata give equal files. Source: safetensors, src/tensor.rs, `prepare`.
 */
export async function createSafetensors(
  path: string,
  tensors: readonly TensorInfo[],
  options: { metadata?: Readonly<Record<string, string>> /** Default true. */; flush?: boolean } = {},
): Promise<SafetensorsWriter> {
  const ordered = [...tensors].sort(
    (a, b) => dtypeOrder.indexOf(a.dtype) - dtypeOrder.indexOf(b.dtype) || compare(a.name, b.name),
  )
  const header: Record<string, unknown> = Object.create(null)
  if (options.metadata !== undefined) header.__metadata__ = options.metadata
  const places = new Map<string, { offset: number; readonly end: number; crc: number }>()
  let end = 0
  for (const { name, dtype, shape } of ordered) {
    const start = end
    end += tensorBytes({ dtype, shape })
    header[name] = { dtype, shape, data_offsets: [start, end] }
    places.set(name, { offset: start, end, crc: 0 })
  }
  const json = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  json.copy(head, 8)

  const file = await open(path, 'wx')
  const start: FilePlace = { path, fd: file.fd, offset: 0 }
  const put = (bytes: Uint8Array, position: number): Promise<void> => writePlace(start, position, bytes)
  try {
    await file.truncate(head.length + end)
    await put(head, 0)
  } catch (error) {
    await file.close()
    throw error
  }
  return {
    order: ordered.map(tensor => tensor.name),
    async write(name, bytes) {
      const place = places.get(name)
      if (place === undefined || place.offset + bytes.length > place.end) {
        const room = place === undefined ? 'is no tensor of the file' : `has room for ${place.end - place.offset}`
        throw new InputError(`${path}: ${bytes.length} bytes were given for '${name}', which ${room}.`)
      }
      const position = head.length + place.offset
      place.offset += bytes.length
      place.crc = crc32(bytes, place.crc)
      await put(bytes, position)
    },
    place: name => ({ ...start, offset: head.length + places.get(name)!.offset }),
    wrote(name, crc) {
      const place = places.get(name)!
      places.set(name, { ...place, offset: place.end, crc })
    },
    async finish() {
      for (const [name, { offset, end }] of places)
        if (offset !== end) throw new InputError(`${path}: the last ${end - offset} bytes of '${name}' are missing.`)
      if (options.flush !== false) await file.sync()
      await file.close()
      return new Map([...places].map(([name, { crc }]) => [name, crc]))
    },
    close: () => file.close(),
  }
}

/** Widest first; among equally wide ones, later in the reference's list of types first. */
const dtypeOrder = ['I64', 'F64', 'F32', 'I32', 'BF16', 'F16', 'I16', 'I8', 'U8', 'BOOL']

// By code point, as Rust compares UTF-8; differs from UTF-16 order only beyond U+FFFF.
function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
