import { open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { InputError } from '../errors.ts'
import { dtypeBytes, type TensorInfo } from './tensor.ts'

/** A safetensors file being filled. */
export interface SafetensorsWriter {
  /** Names in the order in which their bytes must come. */
  readonly order: readonly string[]
  /** Writes the next bytes of the file: rows of the first tensor of `order`, then of the second, … */
  write(bytes: Uint8Array): Promise<void>
  /**
   * Flushes and closes. Gives each tensor's CRC-32, computed while it was written. Throws InputError when bytes are
   * missing.
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
  options: { metadata?: Readonly<Record<string, string>> } = {},
): Promise<SafetensorsWriter> {
  const ordered = [...tensors].sort(
    (a, b) => dtypeOrder.indexOf(a.dtype) - dtypeOrder.indexOf(b.dtype) || compare(a.name, b.name),
  )
  const header: Record<string, unknown> = Object.create(null)
  if (options.metadata !== undefined) header.__metadata__ = options.metadata
  let end = 0
  const sums: { readonly name: string; readonly end: number; crc: number }[] = []
  for (const { name, dtype, shape } of ordered) {
    const start = end
    end += shape.reduce((a, b) => a * b, dtypeBytes[dtype])
    header[name] = { dtype, shape, data_offsets: [start, end] }
    sums.push({ name, end, crc: 0 })
  }
  const json = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  json.copy(head, 8)

  const file = await open(path, 'wx')
  let written = -head.length
  let current = 0
  const sum = (bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length; ) {
      while (sums[current]!.end <= written + done) current++
      const length = Math.min(bytes.length - done, sums[current]!.end - written - done)
      sums[current]!.crc = crc32(bytes.subarray(done, done + length), sums[current]!.crc)
      done += length
    }
  }
  const put = async (bytes: Uint8Array): Promise<void> => {
    if (written + bytes.length > end) throw new InputError(`${path}: more than the ${end} bytes that its tensors have.`)
    if (written >= 0) sum(bytes)
    for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done)).bytesWritten
    written += bytes.length
  }
  try {
    await put(head)
  } catch (error) {
    await file.close()
    throw error
  }
  return {
    order: ordered.map(tensor => tensor.name),
    write: put,
    async finish() {
      if (written !== end) throw new InputError(`${path}: ${written} of the ${end} bytes that its tensors have.`)
      await file.sync()
      await file.close()
      return new Map(sums.map(({ name, crc }) => [name, crc]))
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
