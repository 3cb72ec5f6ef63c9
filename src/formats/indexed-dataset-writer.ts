import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { FormatError } from '../errors.ts'
import { flush, siblingTemp } from './atomic-file.ts'
import { indexHeaderBytes, indexMagic } from './indexed-dataset-index.ts'

/** A Megatron dataset in the making. Nothing is visible at its prefix until `finish`. */
export interface IndexedDatasetWriter {
  readonly prefix: string
  /** Appends one document of these sequences, which may be none: Megatron then closes an empty document. */
  addDocument(sequences: readonly Int32Array[]): Promise<void>
  /** Appends many documents at once. */
  addDocuments(documents: DocumentBlock): Promise<void>
  /** Brings all so far to the disk, so that another writer can go on `from` here; needs `keepParts`. */
  save(): Promise<DatasetCount>
  /** Closes the files and leaves what was saved for another writer; needs `keepParts`. */
  suspend(): Promise<void>
  /** Removes the index that may be at the prefix, so that datasets that belong together never appear half old. */
  retire(): Promise<void>
  /** Writes the index and makes both files appear. Whatever was at the prefix before is replaced. */
  finish(): Promise<DatasetCount>
  /** Removes everything written so far. Does nothing after `finish`. */
  abort(): Promise<void>
}

/** What a dataset holds. */
export interface DatasetCount {
  readonly sequences: number
  readonly documents: number
  readonly tokens: number
}

/** Several documents, one after another. */
export interface DocumentBlock {
  readonly ids: Int32Array
  /** Ids of each sequence. */
  readonly lengths: Int32Array
  /** Sequences of each document; 0 closes an empty one. */
  readonly sequences: Int32Array
}

export interface IndexedDatasetOptions {
  /** Gather the data in files named `.NAME.part`, which a killed process leaves for the next. Default false. */
  readonly keepParts?: boolean | undefined
  /** Go on after this much of the parts, as `save` returned it; what comes after it there is cut off. */
  readonly from?: DatasetCount | undefined
}

/** Dtype code of int32, which ModelLink writes whatever the vocabulary's size, because labels hold -100. */
const int32Code = 4

/**
 * Starts a Megatron dataset `<prefix>.idx` and `<prefix>.bin` of int32 tokens; makes the folder if need be.
 *
 * Memory is four buffers of 1 MiB, however long the dataset: the index grows in temporary files beside the data.
 * Source of the layout: Megatron-LM, indexed_dataset.py; of int32 always: ModelLink, data_handler.py.
 */
export async function createIndexedDataset(
  prefix: string,
  options: IndexedDatasetOptions = {},
): Promise<IndexedDatasetWriter> {
  await mkdir(dirname(prefix), { recursive: true })
  const { keepParts = false, from } = options
  const files: PendingFile[] = []
  try {
    for (const [extension, size] of [
      ['bin', 4 * (from?.tokens ?? 0)],
      ['lengths', 4 * (from?.sequences ?? 0)],
      ['documents', 8 * (from?.documents ?? 0)],
    ] as const)
      files.push(await (keepParts ? openPart(`${prefix}.${extension}`, size) : createPending(`${prefix}.${extension}`)))
    files.push(await (keepParts ? openPart(`${prefix}.idx`, 0) : createPending(`${prefix}.idx`)))
  } catch (error) {
    await Promise.all(files.map(discard))
    throw error
  }
  const [bin, lengths, documents, idx] = files as [PendingFile, PendingFile, PendingFile, PendingFile]
  const count = { sequences: 0, documents: 0, tokens: 0, ...from }
  const entry = Buffer.alloc(8)
  let isOpen = true
  return {
    prefix,
    async addDocument(sequences) {
      for (const sequence of sequences) {
        await append(bin, bytesOf(sequence))
        entry.writeInt32LE(sequence.length)
        await append(lengths, entry.subarray(0, 4))
        count.sequences++
        count.tokens += sequence.length
      }
      entry.writeBigInt64LE(BigInt(count.sequences))
      await append(documents, entry)
      count.documents++
    },
    async addDocuments({ ids, lengths: sizes, sequences }) {
      const ends = Buffer.alloc(8 * sequences.length)
      for (const [i, added] of sequences.entries()) {
        count.sequences += added
        ends.writeBigInt64LE(BigInt(count.sequences), 8 * i)
      }
      await append(bin, bytesOf(ids))
      await append(lengths, bytesOf(sizes))
      await append(documents, ends)
      count.documents += sequences.length
      count.tokens += ids.length
    },
    async save() {
      for (const file of [bin, lengths, documents]) {
        await drain(file)
        await file.handle.datasync()
      }
      return { ...count }
    },
    async suspend() {
      isOpen = false
      await discard(idx)
      for (const file of [bin, lengths, documents]) await file.handle.close()
    },
    retire: () => rm(idx.path, { force: true }),
    async finish() {
      isOpen = false
      try {
        for (const file of [bin, lengths, documents]) await drain(file)
        await Promise.all([bin.handle.datasync(), writeIndex({ idx, lengths, documents, count })])
        await Promise.all([close(bin), close(idx)])
        // Readers look for the index first, so it goes first and comes last: no moment shows a pair that does not match.
        await rm(idx.path, { force: true })
        await rename(bin.temporary, bin.path)
        await rename(idx.temporary, idx.path)
        await flush(dirname(prefix))
        return { ...count }
      } finally {
        await Promise.all(files.map(discard))
      }
    },
    async abort() {
      if (isOpen) await Promise.all(files.map(discard))
      isOpen = false
    },
  }
}

/** Bytes gathered before each write. */
const bufferBytes = 1 << 20

interface PendingFile {
  readonly path: string
  readonly temporary: string
  readonly handle: FileHandle
  readonly buffer: Buffer
  buffered: number
}

async function createPending(path: string): Promise<PendingFile> {
  const temporary = siblingTemp(path)
  const handle = await open(temporary, 'wx+')
  return { path, temporary, handle, buffer: Buffer.allocUnsafeSlow(bufferBytes), buffered: 0 }
}

/** The part of `path` cut to `size` bytes, to be gone on with; a part that is shorter is a FormatError. */
async function openPart(path: string, size: number): Promise<PendingFile> {
  const temporary = join(dirname(path), `.${basename(path)}.part`)
  const handle = await open(temporary, 'a+')
  try {
    const { size: found } = await handle.stat()
    if (found < size) throw new FormatError({ file: temporary, expected: `${size} bytes or more`, found: `${found}` })
    await handle.truncate(size)
  } catch (error) {
    await handle.close()
    throw error
  }
  return { path, temporary, handle, buffer: Buffer.allocUnsafeSlow(bufferBytes), buffered: 0 }
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

async function append(file: PendingFile, bytes: Buffer): Promise<void> {
  if (file.buffered + bytes.length > bufferBytes) await drain(file)
  if (bytes.length > bufferBytes) return writeFully(file, bytes)
  bytes.copy(file.buffer, file.buffered)
  file.buffered += bytes.length
}

async function drain(file: PendingFile): Promise<void> {
  await writeFully(file, file.buffer.subarray(0, file.buffered))
  file.buffered = 0
}

async function writeFully(file: PendingFile, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.handle.write(bytes, done, bytes.length - done)
    done += bytesWritten
  }
}

async function close(file: PendingFile): Promise<void> {
  await file.handle.sync()
  await file.handle.close()
}

async function discard(file: PendingFile): Promise<void> {
  await file.handle.close().catch(() => {})
  await rm(file.temporary, { force: true })
}

async function writeIndex(parts: {
  idx: PendingFile
  lengths: PendingFile
  documents: PendingFile
  count: { sequences: number; documents: number }
}): Promise<void> {
  const { idx, lengths, documents, count } = parts
  const header = Buffer.alloc(indexHeaderBytes)
  header.set(indexMagic)
  header.writeBigUInt64LE(1n, 9)
  header.writeUInt8(int32Code, 17)
  header.writeBigUInt64LE(BigInt(count.sequences), 18)
  header.writeBigUInt64LE(BigInt(count.documents + 1), 26)
  await append(idx, header)
  for await (const piece of pieces(lengths)) await append(idx, piece)
  let offset = 0
  for await (const piece of pieces(lengths)) {
    const offsets = Buffer.alloc(2 * piece.length)
    for (let at = 0; at < piece.length; at += 4) {
      offsets.writeBigInt64LE(BigInt(offset), 2 * at)
      offset += 4 * piece.readInt32LE(at)
    }
    await append(idx, offsets)
  }
  await append(idx, Buffer.alloc(8))
  for await (const piece of pieces(documents)) await append(idx, piece)
  await drain(idx)
}

/** The file's bytes from its start, in pieces of a whole number of 8-byte items; each piece holds until the next. */
async function* pieces(file: PendingFile): AsyncGenerator<Buffer> {
  const piece = Buffer.allocUnsafe(bufferBytes / 2)
  let position = 0
  for (;;) {
    let filled = 0
    while (filled < piece.length) {
      const { bytesRead } = await file.handle.read(piece, filled, piece.length - filled, position + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    if (filled > 0) yield piece.subarray(0, filled)
    if (filled < piece.length) return
    position += filled
  }
}
