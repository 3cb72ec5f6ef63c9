import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { toUSVString } from 'node:util'
import { FormatError, UnsupportedError } from '../../errors.ts'
import { createSectioner } from './added-tokens.ts'
import { assignIds, readAddedTokens } from './added-vocabulary.ts'
import { type BpeModel, readMerges, readVocabulary } from './bpe-model.ts'
import { readDecoder } from './decoder.ts'
import { createBuffers, reserveIds } from './encoding-buffers.ts'
import { readNormalizer } from './normalizer.ts'
import { readPostProcessor, type Template } from './post-processor.ts'
import { readPreTokenizer } from './pre-tokenizer.ts'
import { createSectionEncoder } from './section-encoder.ts'
import { readJsonObject, readTokenizerConfig, type TokenizerConfig } from './tokenizer-config.ts'

/** Text to ids, as Hugging Face's fast tokenizer of the same files gives them. */
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
  /** Absent when no file names such a token. */
  readonly bosId?: number
  readonly eosId?: number
  readonly padId?: number
}

/** Largest tokenizer.json that is read. */
const maxFileBytes = 256 << 20

/**
 * Loads `tokenizer.json` of a model folder, with what `tokenizer_config.json`, `special_tokens_map.json` and
 * `config.json` add to it. Takes 0.2 to 0.5 s and about 60 MB for a vocabulary of 130,000 tokens.
 * @throws FormatError when a file is damaged; UnsupportedError when it asks for something this version does not know.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = join(folder, 'tokenizer.json')
  const size = await stat(file).then(
    ({ size }) => size,
    () => undefined,
  )
  if (size === undefined || size > maxFileBytes) {
    const found = size === undefined ? 'no such file' : `${size} bytes`
    throw new FormatError({ file, expected: `a tokenizer of at most ${maxFileBytes} bytes`, found })
  }
  const json = (await readJsonObject(file)) ?? {}
  return createTokenizer({ json, file, config: await readTokenizerConfig(folder) })
}

function createTokenizer(source: {
  json: Readonly<Record<string, unknown>>
  file: string
  config: TokenizerConfig
}): Tokenizer {
  const { json, file, config } = source
  const model = readModel(json.model, file)
  const { vocab } = model
  const specs = readAddedTokens(json.added_tokens, { vocab, file })
  const known = new Set([...specs, ...config.added].map(({ content }) => content))
  const missing = config.specialTokens.filter(({ content }) => !known.has(content))
  const tokens = assignIds([...specs, ...config.added, ...missing], vocab)
  const idOf = (content: string | undefined) =>
    content === undefined ? undefined : (tokens.find(token => token.content === content)?.id ?? vocab.get(content))

  const normalizer = readNormalizer(json.normalizer)
  const preTokenizer = readPreTokenizer(json.pre_tokenizer)
  const template = config.template ? makeTemplate(config, { idOf, file }) : readPostProcessor(json.post_processor, file)
  const split = tokens.filter(token => !(config.splitSpecialTokens && token.special))
  const normalized = split.filter(token => token.normalized)
  const rawSections = createSectioner(
    split.filter(token => !token.normalized).map(token => ({ pattern: token.content, token })),
  )
  const normalizedSections = createSectioner(
    normalized.map(token => ({ pattern: normalizer.apply(token.content), token })),
  )
  const normalize = normalized.length > 0 ? normalizer.apply : normalizer.applyEarly

  const buffers = createBuffers()
  const encodeSection = createSectionEncoder({ model, preTokenizer, replace: normalizer.lastUnits }, buffers)
  const push = (ids: readonly number[]) => {
    reserveIds(buffers, ids.length)
    for (const id of ids) buffers.ids[buffers.length++] = id
  }
  const contents = new Map([
    ...[...vocab].map(([token, id]) => [id, token] as const),
    ...tokens.map(token => [token.id, token.content] as const),
  ])
  const decodeTokens = readDecoder(json.decoder)
  const [bosId, eosId, padId] = [config.special.bos_token, config.special.eos_token, config.special.pad_token].map(idOf)

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
    decode: ids => decodeTokens(Array.from(ids, id => contents.get(id) ?? '')),
    vocabSize: contents.size,
    ...(bosId === undefined ? {} : { bosId }),
    ...(eosId === undefined ? {} : { eosId }),
    ...(padId === undefined ? {} : { padId }),
  }
}

interface ModelJson {
  readonly type?: unknown
  readonly vocab?: unknown
  readonly merges?: unknown
  readonly unk_token?: unknown
  readonly fuse_unk?: unknown
  readonly byte_fallback?: unknown
  readonly ignore_merges?: unknown
  readonly dropout?: unknown
  readonly continuing_subword_prefix?: unknown
  readonly end_of_word_suffix?: unknown
}

function readModel(model: unknown, file: string): BpeModel {
  if (typeof model !== 'object' || model === null) throw new FormatError({ file, expected: 'a model', found: 'none' })
  const json = model as ModelJson
  if (json.type !== undefined && json.type !== 'BPE') {
    throw new UnsupportedError(`${file}: a model of type ${json.type}; this version knows BPE.`)
  }
  for (const name of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix'] as const) {
    if (json[name])
      throw new UnsupportedError(
        `${file}: a BPE model with ${name} ${JSON.stringify(json[name])}, which this version does not know.`,
      )
  }
  const vocab = readVocabulary(json.vocab, file)
  return {
    file,
    vocab,
    merges: readMerges(json.merges, { vocab, file }),
    unkToken: typeof json.unk_token === 'string' ? json.unk_token : undefined,
    fuseUnk: json.fuse_unk === true,
    byteFallback: json.byte_fallback === true,
    ignoreMerges: json.ignore_merges === true,
  }
}

/** Source: transformers 4.43, tokenization_llama_fast.py, `update_post_processor`. */
function makeTemplate(
  { special, template }: TokenizerConfig,
  { idOf, file }: { idOf: (content: string | undefined) => number | undefined; file: string },
): Template {
  const idsOf = (role: 'bos_token' | 'eos_token', wanted: boolean | undefined) => {
    if (!wanted) return []
    const id = idOf(special[role])
    if (id !== undefined) return [id]
    throw new FormatError({
      file,
      expected: `a ${role}, which the tokenizer's class adds to every text`,
      found: 'none',
    })
  }
  return { before: idsOf('bos_token', template?.bos), after: idsOf('eos_token', template?.eos) }
}
