import { FormatError } from '../../errors.ts'
import { type BpeModel, limits } from './bpe-model.ts'
import { byteCharacters } from './byte-alphabet.ts'
import { impliedMerges } from './implied-merges.ts'
import { normalizerSpec } from './normalizer-spec.ts'
import { bpeTables } from './section-encoder.ts'
import { createTableMemory } from './table-memory.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'

/** True for the text of a tiktoken file: a token in base64 and its rank, on each line. */
export function isTiktoken(bytes: Uint8Array): boolean {
  return /^[A-Za-z0-9+/]+={0,2} \d+\r?\n/.test(Buffer.from(bytes.subarray(0, 1024)).toString('latin1'))
}

/**
 * The BPE model of a tiktoken file (`qwen.tiktoken`, `tokenizer.model` of GLM-4): ranks are ids, and say which tokens
 * join first. Source: tiktoken, lib.rs, `byte_pair_encode`, and load.py, `load_tiktoken_bpe`.
 * @throws FormatError at a line that is none, at a token or rank that comes twice, or when a single byte has no token.
 */
export function readTiktoken(bytes: Uint8Array, file: string): BpeModel {
  const vocab = new Map<string, number>()
  const ranks = new Set<number>()
  let offset = 0
  for (const line of Buffer.from(bytes).toString('latin1').split('\n')) {
    const [base64 = '', rank = '', ...more] = line.trim().split(/\s+/)
    if (base64 !== '') {
      const id = /^\d{1,8}$/.test(rank) ? Number(rank) : -1
      const token = more.length === 0 && isBase64(base64) ? Buffer.from(base64, 'base64') : undefined
      if (!token || id < 0 || id >= limits.id || token.length > limits.tokenLength || vocab.size === limits.tokens) {
        throw new FormatError({ file, offset, expected: 'a token in base64 and its rank', found: line.slice(0, 60) })
      }
      const text = Array.from(token, byte => byteCharacters[byte]).join('')
      if (vocab.has(text) || ranks.has(id)) {
        throw new FormatError({ file, offset, expected: 'tokens and ranks that differ', found: `${line} again` })
      }
      vocab.set(text, id)
      ranks.add(id)
    }
    offset += line.length + 1
  }
  const missing = byteCharacters.findIndex(character => !vocab.has(character))
  if (missing >= 0) throw new FormatError({ file, expected: 'a token for each byte', found: `none for ${missing}` })
  const ordered = [...vocab].sort(([, a], [, b]) => a - b).map(([text, id], order) => [text, id, order] as const)
  return {
    file,
    memory: createTableMemory(),
    vocab,
    merges: impliedMerges(ordered, { symbols: vocab, file }),
    fuseUnk: false,
    byteFallback: false,
    ignoreMerges: true,
  }
}

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text)
}

/** A tokenizer of tiktoken ranks; its own tokens are the vendor's to say. */
export function tiktokenParts(
  model: BpeModel,
  { pattern, isNfc }: { pattern: string; isNfc: boolean },
): Omit<TokenizerParts, 'tokens' | 'hidden' | 'isSlow'> {
  const preTokenizer = { kind: 'byteLevel', pattern, addPrefixSpace: false } as const
  return {
    file: model.file,
    memory: model.memory,
    vocab: model.vocab,
    normalizer: normalizerSpec(isNfc ? { type: 'NFC' } : null),
    preTokenizer,
    tables: () => bpeTables(model, preTokenizer),
    decoder: { type: 'ByteLevel' },
    template: { before: [], after: [] },
  }
}
