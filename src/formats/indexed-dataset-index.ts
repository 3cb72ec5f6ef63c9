import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { FormatError, UnsupportedError } from '../errors.ts'

/** First bytes of an `.idx`: `MMIDIDX` and two NULs. Source: Megatron-LM, indexed_dataset.py, `_INDEX_HEADER`. */
export const indexMagic = Uint8Array.of(0x4d, 0x4d, 0x49, 0x44, 0x49, 0x44, 0x58, 0, 0)

/** Bytes before the first sequence length: magic, version (u64), dtype (u8), sequences (u64), document entries (u64). */
export const indexHeaderBytes = 34

/** Token types by their code in the header. Source: Megatron-LM, indexed_dataset.py, `DType`. */
const tokenTypes: Readonly<Record<number, TokenType>> = {
  1: { name: 'uint8', bytes: 1 },
  2: { name: 'int8', bytes: 1 },
  3: { name: 'int16', bytes: 2 },
  4: { name: 'int32', bytes: 4 },
  5: { name: 'int64', bytes: 8 },
  6: { name: 'float64', bytes: 8 },
  7: { name: 'float32', bytes: 4 },
  8: { name: 'uint16', bytes: 2 },
}

export interface TokenType {
  /** As NumPy names it. */
  readonly name: string
  readonly bytes: number
}

/** What an `.idx` says, checked. */
export interface Index {
  readonly lengths: Int32Array
  /** Tokens before each sequence; one longer than `lengths`. */
  readonly starts: Float64Array
  readonly documents: Float64Array
  readonly token: TokenType
}

/** Reads an `.idx` and checks it to its last byte. @throws FormatError where it cannot be right. */
export function readIndex(file: string): Index {
  const descriptor = openFile(file)
  try {
    const { size } = fstatSync(descriptor)
    const { sequences, entries, token } = readHeader(descriptor, { file, size })
    const lengths = readLengths(descriptor, { file, sequences })
    const starts = readOffsets(descriptor, { file, lengths, tokenBytes: token.bytes })
    const documents = readDocuments(descriptor, { file, sequences, entries })
    return { lengths, starts, documents, token }
  } finally {
    closeSync(descriptor)
  }
}

function readHeader(descriptor: number, { file, size }: { file: string; size: number }) {
  const header = Buffer.alloc(indexHeaderBytes)
  if (readSync(descriptor, header, 0, indexHeaderBytes, 0) !== indexHeaderBytes) {
    throw new FormatError({ file, expected: `a header of ${indexHeaderBytes} bytes`, found: `${size} bytes` })
  }
  const magic = header.subarray(0, 9)
  if (!magic.equals(indexMagic)) {
    throw new FormatError({
      file,
      offset: 0,
      expected: 'MMIDIDX and two NULs',
      found: `bytes ${magic.toString('hex')}`,
    })
  }
  const version = header.readBigUInt64LE(9)
  if (version !== 1n)
    throw new FormatError({ file, offset: 9, expected: 'index version 1', found: `version ${version}` })
  const code = header.readUInt8(17)
  const token = tokenTypes[code]
  if (!token) throw new FormatError({ file, offset: 17, expected: 'a dtype code from 1 to 8', found: `${code}` })
  if (token.name.startsWith('float')) {
    throw new UnsupportedError(`${file}: holds ${token.name} values; token ids are integers.`)
  }
  const sequences = readCount(header, { file, offset: 18, what: 'sequences', limit: Math.floor(size / 12) })
  const entries = readCount(header, { file, offset: 26, what: 'document entries', limit: Math.floor(size / 8) })
  const expected = indexHeaderBytes + 12 * sequences + 8 * entries
  if (size === expected + sequences && sequences > 0) {
    throw new UnsupportedError(
      `${file}: has a mode for each sequence (multimodal data), which this version does not read.`,
    )
  }
  if (size !== expected) {
    throw new FormatError({
      file,
      expected: `${expected} bytes for ${sequences} sequences and ${entries} document entries`,
      found: `${size} bytes`,
    })
  }
  return { sequences, entries, token }
}

function readCount(
  header: Buffer,
  { file, offset, what, limit }: { file: string; offset: number; what: string; limit: number },
) {
  const count = header.readBigUInt64LE(offset)
  if (count > BigInt(limit)) {
    throw new FormatError({
      file,
      offset,
      expected: `at most ${limit} ${what} in a file of this size`,
      found: `${count}`,
    })
  }
  return Number(count)
}

function readLengths(descriptor: number, { file, sequences }: { file: string; sequences: number }): Int32Array {
  const lengths = new Int32Array(sequences)
  eachPiece(descriptor, { file, position: indexHeaderBytes, count: sequences, itemBytes: 4 }, (view, first, count) => {
    for (let i = 0; i < count; i++) {
      const length = view.getInt32(4 * i, true)
      if (length < 0) {
        const offset = indexHeaderBytes + 4 * (first + i)
        throw new FormatError({ file, offset, expected: `a length of sequence ${first + i}`, found: `${length}` })
      }
      lengths[first + i] = length
    }
  })
  return lengths
}

function readOffsets(descriptor: number, at: { file: string; lengths: Int32Array; tokenBytes: number }): Float64Array {
  const { file, lengths, tokenBytes } = at
  const starts = new Float64Array(lengths.length + 1)
  const position = indexHeaderBytes + 4 * lengths.length
  eachPiece(descriptor, { file, position, count: lengths.length, itemBytes: 8 }, (view, first, count) => {
    for (let i = 0; i < count; i++) {
      const start = starts[first + i] ?? 0
      const found = view.getBigInt64(8 * i, true)
      if (found !== BigInt(start * tokenBytes)) {
        throw new FormatError({
          file,
          offset: position + 8 * (first + i),
          expected: `byte ${start * tokenBytes} of .bin as the start of sequence ${first + i} (the sum of the lengths before it)`,
          found: `${found}`,
        })
      }
      starts[first + i + 1] = start + (lengths[first + i] ?? 0)
    }
  })
  return starts
}

function readDocuments(descriptor: number, at: { file: string; sequences: number; entries: number }): Float64Array {
  const { file, sequences, entries } = at
  const documents = new Float64Array(entries)
  const position = indexHeaderBytes + 12 * sequences
  let previous = 0
  eachPiece(descriptor, { file, position, count: entries, itemBytes: 8 }, (view, first, count) => {
    for (let i = 0; i < count; i++) {
      const entry = view.getBigInt64(8 * i, true)
      const isFirst = first + i === 0
      if (isFirst ? entry !== 0n : entry < BigInt(previous) || entry > BigInt(sequences)) {
        throw new FormatError({
          file,
          offset: position + 8 * (first + i),
          expected: isFirst ? 'a document index that starts with 0' : `a document end from ${previous} to ${sequences}`,
          found: `${entry}`,
        })
      }
      previous = Number(entry)
      documents[first + i] = previous
    }
  })
  // Megatron asserts this when it opens the file; a document index of no entries at all fails there, too.
  if (entries === 0 || previous !== sequences) {
    throw new FormatError({
      file,
      expected: `a document index that ends with the number of sequences, ${sequences}`,
      found: entries === 0 ? 'no document index' : `${previous}`,
    })
  }
  return documents
}

/** Bytes of the index that are read at a time. */
const pieceBytes = 1 << 20

interface IndexArray {
  readonly file: string
  readonly position: number
  readonly count: number
  readonly itemBytes: number
}

function eachPiece(
  descriptor: number,
  array: IndexArray,
  visit: (view: DataView, first: number, count: number) => void,
) {
  const perPiece = pieceBytes / array.itemBytes
  const bytes = Buffer.alloc(Math.min(pieceBytes, array.count * array.itemBytes))
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let first = 0; first < array.count; first += perPiece) {
    const count = Math.min(perPiece, array.count - first)
    const length = count * array.itemBytes
    readFully(descriptor, bytes.subarray(0, length), {
      file: array.file,
      position: array.position + first * array.itemBytes,
    })
    visit(view, first, count)
  }
}

/** Fills `into` from `position` on. @throws FormatError when the file ends before. */
export function readFully(
  descriptor: number,
  into: Buffer,
  { file, position }: { file: string; position: number },
): void {
  for (let done = 0; done < into.length; ) {
    const count = readSync(descriptor, into, done, into.length - done, position + done)
    if (count === 0) {
      throw new FormatError({
        file,
        offset: position + done,
        expected: 'more bytes',
        found: 'the end of the file (did it shrink?)',
      })
    }
    done += count
  }
}

/** Opens one of a dataset's files. @throws FormatError when there is none. */
export function openFile(file: string): number {
  if (!existsSync(file)) {
    throw new FormatError({
      file,
      expected: 'a file of a Megatron dataset (its path, without .idx and .bin, is the prefix)',
      found: 'no such file',
    })
  }
  return openSync(file, 'r')
}
