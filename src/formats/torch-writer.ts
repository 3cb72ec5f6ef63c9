import { open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { InputError } from '../errors.ts'
import { type FilePlace, writePlace } from './file-place.ts'
import { pickle } from './pickle.ts'
import type { NewTensor, PickleValue } from './pickle-value.ts'
import { tensorBytes } from './tensor.ts'
import { layoutZip, type ZipLayout, zipDirectory, zipLocalHeader } from './zip-layout.ts'

/** A `.pt` file as it will be: every byte's place is known, the tensors' bytes are not yet. */
export interface TorchFilePlan {
  readonly zip: ZipLayout
  /** Bytes of the records that are not tensors, by their number in `zip.records`. */
  readonly fixed: ReadonlyMap<number, Uint8Array>
  /** Number in `zip.records` of each tensor's storage. */
  readonly records: ReadonlyMap<NewTensor, number>
}

/** A `.pt` file being filled. */
export interface TorchFileWriter {
  /** Writes the next bytes of a tensor, row-major and little-endian; tensors may be filled in turns, and at the same time. */
  write(tensor: NewTensor, bytes: Uint8Array): Promise<void>
  /** Where a tensor's bytes go, for whoever writes them there himself and then says so with `wrote`. */
  place(tensor: NewTensor): FilePlace
  /** Says that all bytes of a tensor are in their place, and what their CRC-32 is. */
  wrote(tensor: NewTensor, crc: number): void
  /**
   * Writes headers and directory, flushes unless told not to, and closes. Gives each tensor's CRC-32, computed while it was written.
   * Throws InputError when a tensor is not complete.
   */
  finish(): Promise<ReadonlyMap<NewTensor, number>>
  /** Closes without finishing; the file is then no `.pt` file. */
  close(): Promise<void>
}

/** Bytes at which PyTorch aligns storages, so that `torch.load(mmap=True)` can use them in place. */
const alignment = 64

/** Lays out the file that `torch.save(value)` would write, under the folder name `root`. */
export function planTorchFile(value: PickleValue, options: { root: string }): TorchFilePlan {
  const { bytes, tensors } = pickle(value)
  const parts: { name: string; byteLength: number; bytes?: Uint8Array }[] = [
    { name: 'data.pkl', byteLength: bytes.length, bytes },
    { name: 'byteorder', byteLength: 6, bytes: Buffer.from('little') },
    ...tensors.map((tensor, i) => ({ name: `data/${i}`, byteLength: tensorBytes(tensor) })),
    { name: 'version', byteLength: 2, bytes: Buffer.from('3\n') },
  ]
  return {
    zip: layoutZip(
      parts.map(part => ({ name: `${options.root}/${part.name}`, byteLength: part.byteLength })),
      alignment,
    ),
    fixed: new Map(parts.flatMap((part, i) => (part.bytes === undefined ? [] : [[i, part.bytes] as const]))),
    records: new Map(tensors.map((tensor, i) => [tensor, i + 2])),
  }
}

/**
 * Starts the file of `plan` at `path`, which must not exist. It is not a `.pt` file until `finish`, so write it in a
 * temporary place. The CRC-32 of every record is correct.
 */
export async function createTorchFile(
  path: string,
  plan: TorchFilePlan,
  options: { /** Default true. */ flush?: boolean } = {},
): Promise<TorchFileWriter> {
  const file = await open(path, 'wx')
  await file.truncate(plan.zip.directoryOffset).catch(async error => {
    await file.close()
    throw error
  })
  const { records } = plan.zip
  const crcs = records.map((_, i) => (plan.fixed.has(i) ? crc32(plan.fixed.get(i)!) : 0))
  const written = records.map(() => 0)
  const start: FilePlace = { path, fd: file.fd, offset: 0 }
  const put = (bytes: Uint8Array, position: number): Promise<void> => writePlace(start, position, bytes)
  return {
    async write(tensor, bytes) {
      const i = plan.records.get(tensor)
      const record = i === undefined ? undefined : records[i]
      if (i === undefined || record === undefined || written[i]! + bytes.length > record.byteLength) {
        throw new InputError(
          `${path}: ${bytes.length} bytes after ${written[i ?? -1] ?? 0} do not fit ${record?.name ?? 'the plan'}.`,
        )
      }
      const position = record.offset + written[i]!
      written[i]! += bytes.length
      crcs[i] = crc32(bytes, crcs[i])
      await put(bytes, position)
    },
    place: tensor => ({ ...start, offset: records[plan.records.get(tensor)!]!.offset }),
    wrote(tensor, crc) {
      const i = plan.records.get(tensor)!
      written[i] = records[i]!.byteLength
      crcs[i] = crc
    },
    async finish() {
      for (const [i, record] of records.entries()) {
        const fixed = plan.fixed.get(i)
        if (fixed === undefined && written[i] !== record.byteLength) {
          throw new InputError(`${path}: ${record.name} has ${written[i]} of its ${record.byteLength} bytes.`)
        }
        await put(zipLocalHeader(record, crcs[i]!), record.header)
        if (fixed !== undefined) await put(fixed, record.offset)
      }
      await put(zipDirectory(plan.zip, crcs), plan.zip.directoryOffset)
      if (options.flush !== false) await file.sync()
      await file.close()
      return new Map([...plan.records].map(([tensor, i]) => [tensor, crcs[i]!]))
    },
    close: () => file.close(),
  }
}
