import { closeSync, fstatSync } from 'node:fs'
import { FormatError, InputError } from '../errors.ts'
import { openFile, readFully, readIndex, type TokenType } from './indexed-dataset-index.ts'

/** One Megatron dataset, opened for reading: any sequence by number, its index in memory, its tokens on disk. */
export interface IndexedDataset {
  /** What Megatron's `--data-path` names: the files' path without `.idx` and `.bin`. */
  readonly prefix: string
  /** Type of the tokens on disk, as NumPy names it. */
  readonly tokenType: string
  /** Tokens in each sequence. */
  readonly lengths: Int32Array
  /** Starts with 0; then, for each document, the number of sequences up to its end. One longer than the documents. */
  readonly documents: Float64Array
  /** Tokens of all sequences together. */
  readonly tokens: number
  /** Tokens `offset` to `offset + length` of a sequence (default: all of it), freshly allocated. */
  sequence(index: number, part?: { readonly offset?: number; readonly length?: number }): Int32Array
  close(): void
}

/**
 * Opens `<prefix>.idx` and `<prefix>.bin` and checks the index to its last byte: its counts against its size, its
 * lengths and offsets against each other and the size of `.bin`, its documents against its sequences.
 *
 * Holds 12 bytes a sequence and 8 a document in memory. Source of the layout: Megatron-LM, indexed_dataset.py.
 * @throws FormatError when a byte of the index cannot be right, or a file is missing.
 */
export function openIndexedDataset(prefix: string): IndexedDataset {
  const index = readIndex(`${prefix}.idx`)
  const { lengths, starts, documents, token } = index
  const tokens = starts[lengths.length] ?? 0
  const bin = openFile(`${prefix}.bin`)
  const { size } = fstatSync(bin)
  if (size !== tokens * token.bytes) {
    closeSync(bin)
    throw new FormatError({
      file: `${prefix}.bin`,
      expected: `${tokens} tokens × ${token.bytes} bytes = ${tokens * token.bytes} bytes, as ${prefix}.idx says`,
      found: `${size} bytes`,
    })
  }
  return {
    prefix,
    tokenType: token.name,
    lengths,
    documents,
    tokens,
    sequence(i, part = {}) {
      const total = lengths[i]
      if (total === undefined)
        throw new InputError(`${prefix} has ${lengths.length} sequences; ${i} is not one of them.`)
      const offset = part.offset ?? 0
      const length = part.length ?? total - offset
      if (
        !(
          Number.isInteger(offset) &&
          Number.isInteger(length) &&
          offset >= 0 &&
          length >= 0 &&
          offset + length <= total
        )
      ) {
        throw new InputError(
          `Tokens ${offset} to ${offset + length} of sequence ${i} of ${prefix}, which has ${total}.`,
        )
      }
      return readTokens({ bin, file: `${prefix}.bin`, first: (starts[i] ?? 0) + offset, length, token })
    },
    close: () => closeSync(bin),
  }
}

function readTokens(from: { bin: number; file: string; first: number; length: number; token: TokenType }): Int32Array {
  const { bin, file, first, length, token } = from
  const bytes = Buffer.allocUnsafeSlow(length * token.bytes)
  readFully(bin, bytes, { file, position: first * token.bytes })
  // Typed arrays have the machine's byte order; every platform that Node runs on but s390x is little-endian.
  if (token.name === 'int32') return new Int32Array(bytes.buffer, 0, length)
  const view = new DataView(bytes.buffer)
  return Int32Array.from({ length }, (_, i) => {
    const at = i * token.bytes
    if (token.name === 'uint16') return view.getUint16(at, true)
    if (token.name === 'int16') return view.getInt16(at, true)
    if (token.name === 'uint8') return view.getUint8(at)
    if (token.name === 'int8') return view.getInt8(at)
    const id = view.getBigInt64(at, true)
    if (BigInt.asIntN(32, id) === id) return Number(id)
    throw new FormatError({ file, offset: (first + i) * 8, expected: 'a token id of 32 bits', found: `${id}` })
  })
}
