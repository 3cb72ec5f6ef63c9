import { FormatError, UnsupportedError } from '../../errors.ts'
import { isId, limits } from './bpe-model.ts'
import type { Piece } from './sentencepiece-model.ts'
import type { UnigramTables } from './unigram.ts'

/**
 * The Unigram model of a `tokenizer.json`. @throws FormatError for a vocabulary that is none; UnsupportedError without an
 * unknown token, or where some bytes have no piece to fall back to.
 */
export function readUnigram(
  { vocab: list, unk_id, byte_fallback }: { vocab?: unknown; unk_id?: unknown; byte_fallback?: unknown },
  file: string,
): { vocab: Map<string, number>; tables: UnigramTables } {
  const refuse = (expected: string, found: string) => new FormatError({ file, expected, found })
  if (!Array.isArray(list) || list.length === 0 || list.length > limits.tokens) {
    const found = Array.isArray(list) ? `${list.length}` : typeof list
    throw refuse(`model.vocab, a list of 1 to ${limits.tokens} pieces`, found)
  }
  const pieces = list.map((item: unknown, id): Piece => {
    const [text, score] = Array.isArray(item) ? (item as unknown[]) : []
    if (typeof text === 'string' && text !== '' && typeof score === 'number' && Number.isFinite(score)) {
      return { text, score, kind: 'normal' }
    }
    throw refuse(`a piece and its score in model.vocab[${id}]`, `${JSON.stringify(item)}`.slice(0, 60))
  })
  const vocab = new Map(pieces.map(({ text }, id) => [text, id]))
  if (vocab.size < pieces.length) {
    const id = pieces.findIndex(({ text }, id) => vocab.get(text) !== id)
    throw refuse('pieces that differ', `${pieces[id]?.text} as ${id} and ${vocab.get(pieces[id]?.text ?? '')}`)
  }
  if (unk_id === undefined || unk_id === null) {
    throw new UnsupportedError(`${file}: a Unigram model without unk_id, which this version does not know.`)
  }
  if (!isId(unk_id) || unk_id >= pieces.length) throw refuse(`model.unk_id below ${pieces.length}`, `${unk_id}`)
  const byteIds = Array.from({ length: 256 }, (_, byte) =>
    vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
  )
  const isComplete = byteIds.every(id => id !== undefined)
  if (byte_fallback === true && !isComplete) {
    throw new UnsupportedError(`${file}: byte_fallback without pieces for all bytes, which this version does not know.`)
  }
  const ids = Int32Array.from(pieces, (_, id) => id)
  const common = { kind: 'unigram', library: 'tokenizers', pieces, unkId: unk_id, ids } as const
  return { vocab, tables: byte_fallback === true && isComplete ? { ...common, byteIds } : common }
}
