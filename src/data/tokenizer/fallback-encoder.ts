import { createRequire } from 'node:module'
import { join } from 'node:path'
import { FormatError, UnsupportedError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import { readMerges, readVocabulary } from './bpe-model.ts'
import { createBlockingCall, type FallbackAnswer } from './fallback-thread.ts'
import { readJsonObject, type TokenizerConfig } from './tokenizer-config.ts'
import { mergeAddedTokens } from './tokenizer-json.ts'
import { readUnigram } from './unigram-json.ts'

/** A tokenizer.json as the package `tokenizers` carries it out. */
export interface FallbackEncoder {
  readonly file: string
  encode(text: string, addSpecialTokens: boolean): Int32Array
  decode(ids: readonly number[]): string
  idOf(content: string | undefined): number | undefined
  /** Number of tokens, added ones included. */
  readonly vocabSize: number
  /** What was not understood, and what is done about it. */
  readonly adjustment: string
}

interface RustTokenizer {
  getVocab(withAddedTokens: boolean): Readonly<Record<string, number>>
  getVocabSize(withAddedTokens: boolean): number
  tokenToId(token: string): number | null
}

/**
 * Hands a tokenizer.json that this version does not know to the package `tokenizers`, where it is installed.
 * `refusal` says what was not known.
 * @throws the refusal when the package is not there; FormatError when it does not read the file either.
 */
export async function loadFallbackEncoder(
  folder: string,
  { config, refusal }: { config: TokenizerConfig; refusal: UnsupportedError },
): Promise<FallbackEncoder> {
  const file = join(folder, 'tokenizer.json')
  const { path, parse } = loadPackage(refusal)
  // Whole texts are wanted, as transformers wants them where it is not told otherwise.
  const json = { ...((await readJsonObject(file)) ?? {}), truncation: null, padding: null } as {
    added_tokens?: unknown
    model?: unknown
  }
  const read = (content: object): RustTokenizer => {
    try {
      return parse(JSON.stringify(content))
    } catch (cause) {
      const expected = 'a tokenizer that the package tokenizers reads'
      throw new FormatError({ file, expected, found: (cause as Error).message, cause })
    }
  }
  checkModel(json.model, { file, refusal })
  const vocab = new Map(Object.entries(read(json).getVocab(false)))
  const tokens = mergeAddedTokens(json.added_tokens, { vocab, file, config })
  const whole = { ...json, added_tokens: tokens.map(toJson) }
  const tokenizer = read(whole)
  const ask = createBlockingCall({ packagePath: path, json: JSON.stringify(whole) })
  const check = ({ failed, ...answer }: FallbackAnswer) => {
    if (failed === undefined) return answer
    throw new FormatError({ file, expected: 'a tokenizer that encodes every text', found: failed })
  }
  const reason = refusal.hint ? refusal.message.slice(0, -refusal.hint.length - 1) : refusal.message
  return {
    file,
    encode: (text, addSpecialTokens) => check(ask({ text, addSpecialTokens })).ids ?? new Int32Array(),
    decode: ids => check(ask({ ids })).text ?? '',
    idOf: content => (content === undefined ? undefined : (tokenizer.tokenToId(content) ?? undefined)),
    vocabSize: tokenizer.getVocabSize(true),
    adjustment: `Encoded by the package tokenizers, many times slower: ${reason}`,
  }
}

/** The package ends the whole process at some models that make no sense, so those are refused before it sees them. */
function checkModel(model: unknown, { file, refusal }: { file: string; refusal: UnsupportedError }): void {
  const { type, vocab, merges, dropout, continuing_subword_prefix, unk_id } = (model ?? {}) as Record<string, unknown>
  // Dropout gives other ids each time.
  if (type === 'BPE' && (dropout || continuing_subword_prefix)) throw refusal
  if (type === 'Unigram') {
    readUnigram({ vocab, unk_id }, file)
    return
  }
  const tokens = readVocabulary(vocab, file)
  if (merges !== undefined) readMerges(merges, { vocab: tokens, file })
}

interface Package {
  readonly Tokenizer: { fromString(json: string): RustTokenizer }
}

function loadPackage(refusal: UnsupportedError): { path: string; parse: (json: string) => RustTokenizer } {
  try {
    const require = createRequire(import.meta.url)
    const path = require.resolve('tokenizers')
    const { Tokenizer } = require(path) as Package
    return { path, parse: json => Tokenizer.fromString(json) }
  } catch (cause) {
    const hint = 'With the package tokenizers (npm install tokenizers) it would be encoded by that, more slowly.'
    throw new UnsupportedError(refusal.message, { hint, cause })
  }
}

function toJson({ id, content, singleWord, lstrip, rstrip, normalized, special }: AddedToken) {
  return { id, content, single_word: singleWord, lstrip, rstrip, normalized, special }
}
