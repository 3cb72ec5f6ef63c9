import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { toUSVString } from 'node:util'
import { UnsupportedError } from '../../errors.ts'
import { createSectioner } from './added-tokens.ts'
import { readDecoder } from './decoder.ts'
import { createBuffers, reserveIds } from './encoding-buffers.ts'
import { type FallbackEncoder, loadFallbackEncoder } from './fallback-encoder.ts'
import { createKernelEncoder, type LineEncoder } from './kernel-encoder.ts'
import { createNormalizer } from './normalizer-spec.ts'
import type { Template } from './post-processor.ts'
import { recentImage } from './recent-image.ts'
import { createPieceEncoder, createSectionEncoder, type SectionEncoder } from './section-encoder.ts'
import { createSlowSectioner } from './slow-sections.ts'
import { textOf } from './token-texts.ts'
import { readTokenizerConfig, type TokenizerConfig } from './tokenizer-config.ts'
import { readTokenizerFiles } from './tokenizer-files.ts'
import { createImage, readTemplate, specialIds, type TokenizerFacts, type TokenizerImage } from './tokenizer-image.ts'
import { vendorClasses } from './vendor-class.ts'

/** Text to ids, as the tokenizer that `AutoTokenizer` makes of the same files gives them. */
export interface Tokenizer extends TokenizerFacts {
  /**
   * Ids of `text`, freshly allocated. `addSpecialTokens` (default true) puts bos and eos where the tokenizer's template
   * has them. Tokens that were added to the vocabulary are found in the text either way. A lone surrogate is U+FFFD.
   */
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Int32Array
  /** Encodes a column of JSON lines as they are read, faster than text by text; absent where that cannot be done. */
  readonly encodeLines?: LineEncoder | undefined
  /** Text of the ids. For messages and tests. */
  decode(ids: Iterable<number>): string
}

/**
 * Loads the tokenizer of a model folder from the file that `AutoTokenizer` would read: `qwen.tiktoken` or
 * `tokenizer.model` for a class whose own code reads that, else `tokenizer.json`, else `tokenizer.model`; with what
 * `tokenizer_config.json`, `special_tokens_map.json` and `config.json` add. Takes 0.1 to 1.5 s and about 40 MB for a
 * vocabulary of 130,000 tokens. A `tokenizer.json` that asks for something this version does not know is encoded by the
 * package `tokenizers` where that is installed, which `adjustments` then says.
 * @throws FormatError when a file is damaged; UnsupportedError when it asks for something that is not known.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const config = await readTokenizerConfig(folder)
  try {
    return createTokenizer(await loadTokenizerImage(folder))
  } catch (error) {
    // What a class of its own does to text, and special tokens that are not to be found, the package does not do.
    const isPlain = !vendorClasses[config.className ?? ''] && !config.splitSpecialTokens
    if (!(error instanceof UnsupportedError) || !isPlain || !existsSync(join(folder, 'tokenizer.json'))) throw error
    return createFallbackTokenizer(await loadFallbackEncoder(folder, { config, refusal: error }), config)
  }
}

/**
 * Reads the files for `createTokenizer`, in this thread or in others that are handed it.
 * @throws UnsupportedError also where `loadTokenizer` would turn to the package `tokenizers`.
 */
export function loadTokenizerImage(folder: string): Promise<TokenizerImage> {
  return recentImage(folder, async () => {
    const config = await readTokenizerConfig(folder)
    const { parts, adjustments } = await readTokenizerFiles(folder, config)
    return createImage(parts, { ...config, adjustments: [...config.adjustments, ...adjustments] })
  })
}

function createFallbackTokenizer(encoder: FallbackEncoder, config: TokenizerConfig): Tokenizer {
  const { file, encode, decode, idOf, vocabSize, adjustment } = encoder
  const own = config.template && readTemplate({ file, template: nothing }, { config, idOf })
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

/** A tokenizer of these tables, with caches of its own: about 20 MB. */
export function createTokenizer(image: TokenizerImage): Tokenizer {
  const { template } = image
  let made: TextEncoder | undefined
  const encoder = () => {
    made ??= createTextEncoder(image)
    return made
  }
  const decode = readDecoder(image.decoder)
  return {
    ...image.facts,
    encode(text, { addSpecialTokens = true } = {}) {
      return encoder().encodeText(text, addSpecialTokens ? template : nothing)
    },
    get encodeLines() {
      return encoder().encodeLines
    },
    decode: ids => decode(Array.from(ids, id => textOf(image.texts, id))),
  }
}

const nothing: Template = { before: [], after: [] }

interface TextEncoder {
  encodeText(text: string, around: Template): Int32Array
  readonly encodeLines?: LineEncoder | undefined
}

function createTextEncoder(image: TokenizerImage): TextEncoder {
  const { rawTokens, normalizedTokens, symbols, isSlow, preTokenizer } = image
  const normalizer = createNormalizer(image.normalizer)
  const rawSections = isSlow
    ? createSlowSectioner(rawTokens)
    : createSectioner(rawTokens.map(token => ({ pattern: token.content, token })))
  const normalizedSections = createSectioner([
    ...normalizedTokens.map(token => ({ pattern: normalizer.apply(token.content), token })),
    ...symbols.map(token => ({ pattern: token.content, token })),
  ])
  const normalize = normalizedTokens.length + symbols.length > 0 ? normalizer.apply : normalizer.applyEarly

  const buffers = createBuffers()
  let slow: SectionEncoder | undefined
  const slowEncoder = () => {
    const how = { preTokenizer, replace: normalizer.lastUnits }
    slow ??= createSectionEncoder({ encodePiece: createPieceEncoder(image.tables, buffers), ...how }, buffers)
    return slow
  }
  const kernel = image.kernel && createKernelEncoder(image.kernel, { buffers, preTokenizer, slow: slowEncoder })
  const encodeSection = kernel ? kernel.encodeSection : slowEncoder()
  const push = (ids: readonly number[]) => {
    reserveIds(buffers, ids.length)
    for (const id of ids) buffers.ids[buffers.length++] = id
  }
  const encodeText: TextEncoder['encodeText'] = (text, { before, after }) => {
    buffers.length = 0
    push(before)
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
    push(after)
    return buffers.ids.slice(0, buffers.length)
  }
  return { encodeText, encodeLines: kernel?.encodeLines }
}
