import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { toUSVString } from 'node:util'
import { FormatError, UnsupportedError } from '../../errors.ts'
import { createSectioner } from './added-tokens.ts'
import { createBuffers, reserveIds } from './encoding-buffers.ts'
import { type FallbackEncoder, loadFallbackEncoder } from './fallback-encoder.ts'
import type { Template } from './post-processor.ts'
import { createSectionEncoder } from './section-encoder.ts'
import { createSlowSectioner } from './slow-sections.ts'
import { readTokenizerConfig, type TokenizerConfig } from './tokenizer-config.ts'
import { readTokenizerFiles } from './tokenizer-files.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'
import { vendorClasses } from './vendor-class.ts'

/** Text to ids, as the tokenizer that `AutoTokenizer` makes of the same files gives them. */
export interface Tokenizer {
  /**
   * Ids of `text`, freshly allocated. `addSpecialTokens` (default true) puts bos and eos where the tokenizer's template
   * has them. Tokens that were added to the vocabulary are found in the text either way. A lone surrogate is U+FFFD.
   */
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Int32Array
  /** Text of the ids. For messages and tests. */
  decode(ids: Iterable<number>): string
  /** Number of tokens, added ones included: `len(tokenizer)`. */
  readonly vocabSize: number
  /** What was taken otherwise than the files say, or read from another file than the class reads, in words. */
  readonly adjustments: readonly string[]
  /** Absent when no file names such a token. */
  readonly bosId?: number
  readonly eosId?: number
  readonly padId?: number
}

/**
 * Loads the tokenizer of a model folder from the file that `AutoTokenizer` would read: `qwen.tiktoken` or
 * `tokenizer.model` for a class whose own code reads that, else `tokenizer.json`, else `tokenizer.model`; with what
 * `tokenizer_config.json`, `special_tokens_map.json` and `config.json` add. Takes 0.2 to 1.5 s and about 60 MB for a
 * vocabulary of 130,000 tokens. A `tokenizer.json` that asks for something this version does not know is encoded by the
 * package `tokenizers` where that is installed, which `adjustments` then says.
 * @throws FormatError when a file is damaged; UnsupportedError when it asks for something that is not known.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const config = await readTokenizerConfig(folder)
  try {
    const { parts, adjustments } = await readTokenizerFiles(folder, config)
    return createTokenizer(parts, { ...config, adjustments: [...config.adjustments, ...adjustments] })
  } catch (error) {
    // What a class of its own does to text, and special tokens that are not to be found, the package does not do.
    const isPlain = !vendorClasses[config.className ?? ''] && !config.splitSpecialTokens
    if (!(error instanceof UnsupportedError) || !isPlain || !existsSync(join(folder, 'tokenizer.json'))) throw error
    return createFallbackTokenizer(await loadFallbackEncoder(folder, { config, refusal: error }), config)
  }
}

function createFallbackTokenizer(encoder: FallbackEncoder, config: TokenizerConfig): Tokenizer {
  const { file, encode, decode, idOf, vocabSize, adjustment } = encoder
  const own = config.template && readTemplate({ file, template: noTemplate }, { config, idOf })
  return {
    encode(text, { addSpecialTokens = true } = {}) {
      const ids = encode(toUSVString(text), addSpecialTokens && !own)
      return own && addSpecialTokens ? Int32Array.from([...own.before, ...ids, ...own.after]) : ids
    },
    decode: ids => decode([...ids]),
    vocabSize,
    adjustments: [...config.adjustments, adjustment],
    ...specialIds(config, idOf),
  }
}

function createTokenizer(parts: TokenizerParts, config: TokenizerConfig): Tokenizer {
  const { vocab, tokens, hidden, normalizer, preTokenizer } = parts
  const idByContent = new Map([...vocab, ...[...hidden, ...tokens].map(({ content, id }) => [content, id] as const)])
  const idOf = (content: string | undefined) => (content === undefined ? undefined : idByContent.get(content))
  const template = readTemplate(parts, { config, idOf })
  const split = tokens.filter(token => !(config.splitSpecialTokens && token.special))
  const normalized = parts.isSlow ? [] : split.filter(token => token.normalized)
  const raw = parts.isSlow ? split : split.filter(token => !token.normalized)
  const symbols = parts.symbols ?? []
  const rawSections = parts.isSlow
    ? createSlowSectioner(raw)
    : createSectioner(raw.map(token => ({ pattern: token.content, token })))
  const normalizedSections = createSectioner([
    ...normalized.map(token => ({ pattern: normalizer.apply(token.content), token })),
    ...symbols.map(token => ({ pattern: token.content, token })),
  ])
  const normalize = normalized.length + symbols.length > 0 ? normalizer.apply : normalizer.applyEarly

  const buffers = createBuffers()
  const encodePiece = parts.createEncoder(buffers)
  const encodeSection = createSectionEncoder({ encodePiece, preTokenizer, replace: normalizer.lastUnits }, buffers)
  const push = (ids: readonly number[]) => {
    reserveIds(buffers, ids.length)
    for (const id of ids) buffers.ids[buffers.length++] = id
  }
  const contents = new Map([...idByContent].map(([content, id]) => [id, content] as const))

  return {
    encode(text, { addSpecialTokens = true } = {}) {
      buffers.length = 0
      if (addSpecialTokens) push(template.before)
      for (const section of rawSections(toUSVString(text))) {
        if (section.id !== undefined) {
          push([section.id])
          continue
        }
        for (const inner of normalizedSections(normalize(section.text))) {
          if (inner.id !== undefined) push([inner.id])
          else encodeSection({ text: inner.text, isStart: section.start === 0 && inner.start === 0 })
        }
      }
      if (addSpecialTokens) push(template.after)
      return buffers.ids.slice(0, buffers.length)
    },
    decode: ids => parts.decoder(Array.from(ids, id => contents.get(id) ?? '')),
    vocabSize: contents.size,
    adjustments: config.adjustments,
    ...specialIds(config, idOf),
  }
}

type FindId = (content: string | undefined) => number | undefined

function specialIds({ special }: TokenizerConfig, idOf: FindId): Pick<Tokenizer, 'bosId' | 'eosId' | 'padId'> {
  const [bosId, eosId, padId] = [special.bos_token, special.eos_token, special.pad_token].map(idOf)
  return {
    ...(bosId === undefined ? {} : { bosId }),
    ...(eosId === undefined ? {} : { eosId }),
    ...(padId === undefined ? {} : { padId }),
  }
}

const noTemplate: Template = { before: [], after: [] }

/** Source: transformers 4.43, tokenization_llama_fast.py, `update_post_processor`; the code of the vendors' classes. */
function readTemplate(
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
