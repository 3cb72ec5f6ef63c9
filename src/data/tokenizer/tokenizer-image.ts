import { FormatError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import { limits } from './bpe-model.ts'
import { createKernelImage, type KernelImage } from './kernel-image.ts'
import type { Template } from './post-processor.ts'
import type { PieceTables } from './section-encoder.ts'
import { createTokenTexts, type TokenTexts } from './token-texts.ts'
import type { TokenizerConfig } from './tokenizer-config.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'
import { vendorClasses } from './vendor-class.ts'
import { type TokenIds, tokenList } from './vocabulary.ts'

/** All that a tokenizer is made of, as plain data: threads that are handed it share its tables and read no file. */
export interface TokenizerImage
  extends Pick<TokenizerParts, 'isSlow' | 'normalizer' | 'preTokenizer' | 'decoder' | 'template'> {
  /** Tokens that are cut out of the text as it came. */
  readonly rawTokens: readonly AddedToken[]
  /** Tokens that are cut out of the normalized text, by their own normalized content. */
  readonly normalizedTokens: readonly AddedToken[]
  /** Tokens that are cut out of the normalized text as they are. */
  readonly symbols: readonly AddedToken[]
  readonly tables: PieceTables
  /** The same tables for the kernel; absent when the tokenizer does something that it cannot do. */
  readonly kernel?: KernelImage | undefined
  readonly texts: TokenTexts
  readonly facts: TokenizerFacts
}

/** What is to be known of a tokenizer besides what it does to text. */
export interface TokenizerFacts {
  /** Number of tokens, added ones included: `len(tokenizer)`. */
  readonly vocabSize: number
  /** What was taken otherwise than the files say, or read from another file than the class reads, in words. */
  readonly adjustments: readonly string[]
  /** Absent when no file names such a token. */
  readonly bosId?: number
  readonly eosId?: number
  readonly padId?: number
  readonly unkId?: number
}

/** Puts together what the tokenizer's files say. The tables, which take a while, are made when they are asked for. */
export function createImage(parts: TokenizerParts, config: TokenizerConfig): TokenizerImage {
  const { vocab, tokens, hidden } = parts
  const added = new Map([...hidden, ...tokens].map(({ content, id }) => [content, id] as const))
  const idOf: FindId = content => (content === undefined ? undefined : (added.get(content) ?? vocab.get(content)))
  const split = tokens.filter(token => !(config.splitSpecialTokens && token.special))
  const { isSlow, normalizer, preTokenizer, decoder, symbols = [], memory } = parts
  let tables: PieceTables | undefined
  let texts: TokenTexts | undefined
  // Let go when both are made: threads are handed the tables, and the vocabulary is some 20 MB.
  let making: { readonly tables: () => PieceTables; vocab: typeof vocab; added: typeof added } | undefined = {
    ...{ tables: parts.tables, vocab, added },
  }
  const rawTokens = isSlow ? split : split.filter(token => !token.normalized)
  const normalizedTokens = isSlow ? [] : split.filter(token => token.normalized)
  const template = readTemplate(parts, { config, idOf })
  let kernel: { readonly image: KernelImage | undefined } | undefined
  return {
    ...{ isSlow, normalizer, preTokenizer, decoder, symbols, rawTokens, normalizedTokens, template },
    facts: { vocabSize: countIds(vocab, added), adjustments: config.adjustments, ...specialIds(config, idOf) },
    get tables() {
      tables ??= making!.tables()
      if (texts) making = undefined
      return tables
    },
    get kernel() {
      const { tables } = this
      const known = { tables, preTokenizer, normalizer, rawTokens, normalizedTokens, symbols, template }
      kernel ??= { image: memory && createKernelImage({ ...known, memory }) }
      return kernel.image
    },
    get texts() {
      texts ??= createTokenTexts([tokenList(making!.vocab), tokenList(making!.added)])
      if (tables) making = undefined
      return texts
    },
  }
}

function countIds(vocab: TokenIds, added: ReadonlyMap<string, number>): number {
  const others = new Set(added.values())
  const isOther = new Uint8Array(limits.id)
  for (const id of others) isOther[id] = 1
  for (const id of vocab.values()) if (isOther[id] === 1) others.delete(id)
  return vocab.size + others.size
}

type FindId = (content: string | undefined) => number | undefined

/** Ids of the special tokens that have a role. */
export function specialIds(
  { special }: TokenizerConfig,
  idOf: FindId,
): Pick<TokenizerFacts, 'bosId' | 'eosId' | 'padId' | 'unkId'> {
  const { bos_token, eos_token, pad_token, unk_token } = special
  const [bosId, eosId, padId, unkId] = [bos_token, eos_token, pad_token, unk_token].map(idOf)
  return {
    ...(bosId === undefined ? {} : { bosId }),
    ...(eosId === undefined ? {} : { eosId }),
    ...(padId === undefined ? {} : { padId }),
    ...(unkId === undefined ? {} : { unkId }),
  }
}

/** Source: transformers 4.43, tokenization_llama_fast.py, `update_post_processor`; the code of the vendors' classes. */
export function readTemplate(
  { file, template }: Pick<TokenizerParts, 'file' | 'template'>,
  { config, idOf }: { config: TokenizerConfig; idOf: FindId },
): Template {
  const { special, template: flags, className = '' } = config
  const find = (content: string | undefined, what: string) => {
    const id = idOf(content)
    if (id !== undefined) return id
    throw new FormatError({ file, expected: `${what}, which the tokenizer's class adds to every text`, found: 'none' })
  }
  if (flags) {
    return {
      before: flags.bos ? [find(special.bos_token, 'a bos_token')] : [],
      after: flags.eos ? [find(special.eos_token, 'a eos_token')] : [],
    }
  }
  const vendor = vendorClasses[className]
  return vendor ? { before: vendor.prefix.map(token => find(token, `a token ${token}`)), after: [] } : template
}
