import { FormatError, UnsupportedError } from '../../errors.ts'
import { limits } from './bpe-model.ts'
import { protobufFields } from './protobuf.ts'

/** What a SentencePiece `tokenizer.model` says. Source: sentencepiece_model.proto, whose field numbers are used here. */
export interface SentencePieceModel {
  readonly file: string
  readonly type: 'bpe' | 'unigram'
  /** In the order of their ids. */
  readonly pieces: readonly Piece[]
  readonly unkId: number
  /** Whether a character without a piece becomes the bytes of its UTF-8. */
  readonly byteFallback: boolean
  readonly normalizer: NormalizerSpec
}

export interface Piece {
  readonly text: string
  /** A 32-bit float: BPE merges the higher first, Unigram adds them up. */
  readonly score: number
  readonly kind: 'normal' | 'unknown' | 'control' | 'userDefined' | 'byte'
}

export interface NormalizerSpec {
  /** Rules of replacement, compiled by sentencepiece; empty: none. */
  readonly charsmap: Uint8Array
  readonly addDummyPrefix: boolean
  readonly removeExtraWhitespaces: boolean
  readonly escapeWhitespaces: boolean
}

const kinds: Readonly<Record<number, Piece['kind']>> = {
  1: 'normal',
  2: 'unknown',
  3: 'control',
  4: 'userDefined',
  6: 'byte',
}

/** @throws FormatError for a file that is no such model; UnsupportedError for a kind of model this version lacks. */
export function readSentencePieceModel(bytes: Uint8Array, file: string): SentencePieceModel {
  const pieces: Piece[] = []
  let [type, byteFallback] = [1, false]
  let normalizer: NormalizerSpec = {
    charsmap: new Uint8Array(0),
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  }
  const offsetOf = (part: Uint8Array) => part.byteOffset - bytes.byteOffset
  for (const { number, bytes: part } of protobufFields(bytes, { file, offset: 0 })) {
    if (!part) continue
    const fields = protobufFields(part, { file, offset: offsetOf(part) })
    if (number === 1) {
      if (pieces.length === limits.tokens) {
        throw new FormatError({
          file,
          offset: offsetOf(part),
          expected: `at most ${limits.tokens} pieces`,
          found: 'more',
        })
      }
      pieces.push(readPiece(fields, { file, offset: offsetOf(part), id: pieces.length }))
    } else if (number === 2) {
      for (const { number, value } of fields) {
        if (number === 3 && value !== undefined) type = value
        if (number === 35) byteFallback = value === 1
        if (number === 24 && value === 1) {
          throw new UnsupportedError(`${file}: treat_whitespace_as_suffix, which this version does not know.`)
        }
      }
    } else if (number === 3) {
      for (const { number, value, bytes } of fields) {
        if (number === 2 && bytes) normalizer = { ...normalizer, charsmap: bytes }
        if (number === 3) normalizer = { ...normalizer, addDummyPrefix: value === 1 }
        if (number === 4) normalizer = { ...normalizer, removeExtraWhitespaces: value === 1 }
        if (number === 5) normalizer = { ...normalizer, escapeWhitespaces: value === 1 }
      }
    }
  }
  if (type !== 1 && type !== 2) {
    throw new UnsupportedError(
      `${file}: a SentencePiece model of type ${type === 3 ? 'WORD' : type === 4 ? 'CHAR' : type}.`,
      {
        hint: 'Known are BPE and Unigram.',
      },
    )
  }
  return check({ file, type: type === 1 ? 'unigram' : 'bpe', pieces, unkId: 0, byteFallback, normalizer })
}

function readPiece(
  fields: ReturnType<typeof protobufFields>,
  { file, offset, id }: { file: string; offset: number; id: number },
): Piece {
  let text: string | undefined
  let [score, type] = [0, 1]
  for (const { number, value, bytes } of fields) {
    if (number === 1 && bytes) text = decodePiece(bytes, { file, offset, id })
    if (number === 2 && value !== undefined) score = value
    if (number === 3 && value !== undefined) type = value
  }
  if (!text || !Number.isFinite(score)) {
    throw new FormatError({ file, offset, expected: `text and a score for piece ${id}`, found: `${text}, ${score}` })
  }
  const kind = kinds[type]
  if (!kind)
    throw new UnsupportedError(`${file}: piece ${id}, ${text}, is ${type === 5 ? 'unused' : `of type ${type}`}.`)
  return { text, score, kind }
}

function decodePiece(bytes: Uint8Array, { file, offset, id }: { file: string; offset: number; id: number }): string {
  if (bytes.length > limits.tokenLength) {
    const expected = `at most ${limits.tokenLength} bytes of text for piece ${id}`
    throw new FormatError({ file, offset, expected, found: `${bytes.length}` })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new FormatError({ file, offset, expected: `UTF-8 in piece ${id}`, found: 'something else', cause })
  }
}

function check(model: SentencePieceModel): SentencePieceModel {
  const { file, pieces, byteFallback } = model
  const refuse = (expected: string, found: string) => new FormatError({ file, expected, found })
  const owners = new Map<string, number>()
  pieces.forEach(({ text }, id) => {
    const owner = owners.get(text)
    if (owner !== undefined) throw refuse('pieces that differ', `${text} as ${owner} and ${id}`)
    owners.set(text, id)
  })
  const unknowns = pieces.filter(({ kind }) => kind === 'unknown').length
  if (unknowns !== 1) throw refuse('one piece for what is unknown', `${unknowns} in ${pieces.length} pieces`)
  const bytes = pieces.filter(({ kind, text }) => kind === 'byte' && /^<0x[0-9A-F]{2}>$/.test(text)).length
  const wanted = byteFallback ? 256 : 0
  if (bytes !== wanted || pieces.some(({ kind, text }) => kind === 'byte' && !/^<0x[0-9A-F]{2}>$/.test(text))) {
    throw refuse(`${wanted} byte pieces, <0x00> to <0xFF>`, `${bytes}`)
  }
  return { ...model, unkId: pieces.findIndex(({ kind }) => kind === 'unknown') }
}
