import { crc32 } from 'node:zlib'
import { CancelledError, FormatError, UnsupportedError } from '../errors.ts'
import type { FilePlace } from './file-place.ts'
import type { PickleStorage, PickleTensor, PickleValue } from './pickle-value.ts'
import { openRandomAccessFile, type RandomAccessFile } from './random-access-file.ts'
import { dtypeBytes, tensorBytes } from './tensor.ts'
import { isSize, itemsOf, torchGlobal } from './torch-globals.ts'
import { type Refuse, unpickle } from './unpickle.ts'
import { readZipEntries, type ZipEntry } from './zip.ts'

/** A `torch.save` file whose tensors stay on disk until they are read. */
export interface TorchFile {
  readonly path: string
  /** The saved object, with a `PickleTensor` for each tensor. */
  readonly value: PickleValue
  /**
   * Rows `start` (inclusive) to `end` (exclusive) of a tensor of this file, as little-endian bytes, in `into` when
   * given. A vector has rows of one element.
   */
  readRows(tensor: PickleTensor, rows: { start: number; end: number }, into?: Uint8Array): Promise<Uint8Array>
  /** Where a tensor's bytes lie, one row after another. Throws UnsupportedError when they do not. */
  place(tensor: PickleTensor): FilePlace
  /**
   * The CRC-32 that the file's directory gives for a tensor's bytes, or undefined when its storage holds more than
   * the tensor. Whether the bytes agree with it is another question: see `checkTorchFile`.
   */
  storedCrc(tensor: PickleTensor): number | undefined
  close(): Promise<void>
}

/** Ten thousand parameters and their optimizer take some 5 MB. */
const maxPickleBytes = 32 * 2 ** 20
const blockBytes = 2 * 2 ** 20

/**
 * Opens a `.pt` file: a zip archive of stored records with a pickle of protocol 2, as `torch.save` writes since 1.6.
 * Reads the directory and the pickle (whose CRC-32 is checked), no tensor. Nothing in the file is executed.
 *
 * @throws FormatError for damage and lies, UnsupportedError for classes that are not on the allow-list.
 */
export async function openTorchFile(path: string): Promise<TorchFile> {
  const file = await openRandomAccessFile(path)
  try {
    const entries = await readZipEntries(file)
    const root = rootOf(file, entries)
    await checkRecord(file, entries, `${root}/byteorder`, 'little')
    const record = required(file, entries, `${root}/data.pkl`)
    if (record.byteLength > maxPickleBytes) {
      const found = `${record.byteLength} bytes`
      throw new FormatError({
        file: path,
        offset: record.offset,
        expected: `a pickle of at most ${maxPickleBytes} bytes`,
        found,
      })
    }
    const bytes = await file.read(record.offset, record.byteLength)
    checkCrc(file, record, crc32(bytes))
    const value = unpickle(bytes, {
      file: path,
      offset: record.offset,
      global: torchGlobal,
      persistent: (id, refuse) => storageOf(id, { root, entries, refuse }),
    })
    const places = new Map([...entries.values()].map(entry => [entry.offset, entry]))
    return {
      path,
      value,
      readRows: (tensor, rows, into) => readRows(file, tensor, rows, into),
      place: tensor => {
        refuseStrides(file, tensor)
        return { path, fd: file.fd, offset: tensor.offset }
      },
      storedCrc: tensor => {
        const record = places.get(tensor.offset)
        const isWhole = record?.byteLength === tensorBytes(tensor)
        return isWhole && isContiguous(tensor) ? record.crc32 : undefined
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * Reads every record of a `.pt` file and compares its CRC-32, which PyTorch itself never does. Memory: 2 MiB.
 * @throws FormatError naming the first record whose bytes have changed.
 */
export async function checkTorchFile(path: string, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
  const file = await openRandomAccessFile(path)
  try {
    const buffer = new Uint8Array(blockBytes)
    for (const entry of (await readZipEntries(file)).values()) {
      let crc = 0
      for (let done = 0; done < entry.byteLength; done += blockBytes) {
        if (options.signal?.aborted)
          throw new CancelledError(`Checking ${path} was cancelled.`, { cause: options.signal.reason })
        crc = crc32(await file.read(entry.offset + done, Math.min(blockBytes, entry.byteLength - done), buffer), crc)
      }
      checkCrc(file, entry, crc)
    }
  } finally {
    await file.close()
  }
}

// The folder that holds all records; files with a second one would mean different things to different readers.
function rootOf(file: RandomAccessFile, entries: ReadonlyMap<string, ZipEntry>): string {
  const roots = new Set([...entries.keys()].map(name => name.split('/')[0]!))
  const [root] = roots
  if (root !== undefined && roots.size === 1 && entries.has(`${root}/data.pkl`)) return root
  const found = roots.size > 1 ? `the folders ${[...roots].slice(0, 3).join(', ')}` : `${entries.size} other records`
  throw new FormatError({ file: file.path, expected: "one folder with a record 'data.pkl' (a torch.save file)", found })
}

function required(file: RandomAccessFile, entries: ReadonlyMap<string, ZipEntry>, name: string): ZipEntry {
  const entry = entries.get(name)
  if (entry === undefined) throw new FormatError({ file: file.path, expected: `a record '${name}'`, found: 'none' })
  return entry
}

// Absent before torch 2.1, whose files are little-endian on every machine that Megatron runs on.
async function checkRecord(
  file: RandomAccessFile,
  entries: ReadonlyMap<string, ZipEntry>,
  name: string,
  text: string,
): Promise<void> {
  const entry = entries.get(name)
  if (entry === undefined) return
  const found = Buffer.from(await file.read(entry.offset, Math.min(entry.byteLength, 16))).toString('latin1')
  if (found !== text) throw new UnsupportedError(`${file.path}: byte order '${found}'; only '${text}' is read.`)
}

function checkCrc(file: RandomAccessFile, entry: ZipEntry, found: number): void {
  if (found === entry.crc32) return
  throw new FormatError({
    file: file.path,
    offset: entry.offset,
    expected: `CRC-32 ${hex(entry.crc32)} of '${entry.name}'`,
    found: hex(found),
  })
}

// The tuple ('storage', type, key, location, elements) of torch.serialization.persistent_id.
function storageOf(
  id: PickleValue,
  context: { root: string; entries: ReadonlyMap<string, ZipEntry>; refuse: Refuse },
): PickleStorage {
  const { root, entries, refuse } = context
  const [word, type, key, , length] = itemsOf(id) ?? []
  const isType = typeof type === 'object' && type !== null && 'type' in type && type.type === 'storage-type'
  if (word !== 'storage' || !isType || typeof key !== 'string' || !isSize(length)) {
    return refuse('a reference to a storage', 'something else')
  }
  const entry = entries.get(`${root}/data/${key}`)
  if (entry === undefined) return refuse(`a record '${root}/data/${key}'`, 'none')
  const byteLength = length * dtypeBytes[type.dtype]
  if (byteLength !== entry.byteLength) {
    return refuse(
      `${byteLength} bytes in '${entry.name}' for ${length} elements of ${type.dtype}`,
      `${entry.byteLength}`,
    )
  }
  return { type: 'storage', dtype: type.dtype, length, offset: entry.offset }
}

async function readRows(
  file: RandomAccessFile,
  tensor: PickleTensor,
  rows: { start: number; end: number },
  into?: Uint8Array,
): Promise<Uint8Array> {
  refuseStrides(file, tensor)
  const height = tensor.shape[0] ?? 1
  if (!(0 <= rows.start && rows.start <= rows.end && rows.end <= height)) {
    const expected = `rows ${rows.start} to ${rows.end} of a [${tensor.shape}] tensor`
    throw new FormatError({ file: file.path, offset: tensor.offset, expected, found: `${height} rows` })
  }
  const rowBytes = tensor.shape.slice(1).reduce((a, b) => a * b, dtypeBytes[tensor.dtype])
  return file.read(tensor.offset + rows.start * rowBytes, (rows.end - rows.start) * rowBytes, into)
}

function refuseStrides(file: RandomAccessFile, tensor: PickleTensor): void {
  if (isContiguous(tensor)) return
  throw new UnsupportedError(
    `${file.path}: a tensor of shape [${tensor.shape}] has strides [${tensor.stride}]; only contiguous ones are read.`,
    { hint: 'Save it with .contiguous().' },
  )
}

function isContiguous({ shape, stride }: PickleTensor): boolean {
  let width = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== width) return false
    width *= shape[axis]!
  }
  return true
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`
}
