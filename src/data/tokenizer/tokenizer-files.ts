import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, UnsupportedError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import { readSentencePieceModel } from './sentencepiece-model.ts'
import { sentencePieceParts } from './sentencepiece-parts.ts'
import { isTiktoken, readTiktoken, tiktokenParts } from './tiktoken.ts'
import type { TokenizerConfig } from './tokenizer-config.ts'
import { readTokenizerJson } from './tokenizer-json.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'
import { type VendorClass, vendorClasses } from './vendor-class.ts'
import type { TokenIds } from './vocabulary.ts'

/** Largest tokenizer file that is read. */
const maxFileBytes = { 'tokenizer.json': 256 << 20, 'tokenizer.model': 32 << 20, 'qwen.tiktoken': 32 << 20 }
type FileName = keyof typeof maxFileBytes

/** Reads the file that the tokenizer's class reads, or the one that is there instead, which `adjustments` then says. */
export async function readTokenizerFiles(
  folder: string,
  config: TokenizerConfig,
): Promise<{ parts: TokenizerParts; adjustments: readonly string[] }> {
  const { className = '' } = config
  const vendor = vendorClasses[className]
  const wanted: FileName = vendor?.file ?? 'tokenizer.json'
  if (vendor && (await isThere(folder, wanted))) {
    return { parts: await readVendorFile({ folder, config, vendor }), adjustments: [] }
  }
  if (vendor && (await isThere(folder, 'tokenizer.json'))) {
    await checkSize(folder, 'tokenizer.json')
    const parts = await readTokenizerJson(folder, config)
    const note = `tokenizer.json read: ${wanted}, which the class ${className} reads, is not there.`
    return { parts: { ...parts, ...vendorTokens(parts.vocab, { config, vendor }) }, adjustments: [note] }
  }
  if (!(await isThere(folder, wanted)) && (await isThere(folder, 'tokenizer.model'))) {
    return { parts: await readLlamaModel(folder, config), adjustments: [] }
  }
  await checkSize(folder, wanted)
  return { parts: await readTokenizerJson(folder, config), adjustments: [] }
}

async function readVendorFile(source: {
  folder: string
  config: TokenizerConfig
  vendor: VendorClass
}): Promise<TokenizerParts> {
  const { folder, config, vendor } = source
  const file = join(folder, vendor.file)
  const bytes = await readLimited(folder, vendor.file)
  if (vendor.split) {
    const parts = tiktokenParts(readTiktoken(bytes, file), vendor.split)
    return { ...parts, ...vendorTokens(parts.vocab, { config, vendor }) }
  }
  const model = readSentencePieceModel(bytes, file)
  const own = new Map(model.pieces.map(({ text }, id) => [text, id]))
  const { tokens, hidden } = vendorTokens(own, { config, vendor })
  // The class looks pieces up by their text, among its own tokens first.
  const ids = new Map([...hidden, ...tokens].map(({ content, id }) => [content, id]))
  const parts = sentencePieceParts(model, { idOf: (text, id) => ids.get(text) ?? id })
  return { ...parts, tokens, hidden, isSlow: true }
}

/** Source: transformers 4.57, convert_slow_tokenizer.py, `LlamaConverter`. */
async function readLlamaModel(folder: string, config: TokenizerConfig): Promise<TokenizerParts> {
  const file = join(folder, 'tokenizer.model')
  const bytes = await readLimited(folder, 'tokenizer.model')
  if (config.className !== 'LlamaTokenizer' || isTiktoken(bytes)) {
    throw new UnsupportedError(
      `${file} without tokenizer.json, for the tokenizer class ${config.className ?? '(none named)'}, which this version does not know${isTiktoken(bytes) ? ' for tiktoken ranks' : ''}.`,
      { hint: `Known are LlamaTokenizer with SentencePiece, and ${Object.keys(vendorClasses).join(', ')}.` },
    )
  }
  const model = readSentencePieceModel(bytes, file)
  return sentencePieceParts(model, { idOf: (_, id) => id, config })
}

/**
 * The tokens of a vendor's class, with the ids that its code and `added_tokens_decoder` give them.
 * Source: transformers 4.57, tokenization_utils.py, `PreTrainedTokenizer.__init__`.
 */
function vendorTokens(
  vocab: TokenIds,
  { config, vendor }: { config: TokenizerConfig; vendor: VendorClass },
): Pick<TokenizerParts, 'tokens' | 'hidden' | 'isSlow'> & { symbols?: readonly AddedToken[] } {
  const plain = { singleWord: false, lstrip: false, rstrip: false, normalized: false, special: true }
  const own = vendor.tokens.map((content, i): AddedToken => ({ ...plain, content, id: vocab.size + i }))
  if (vendor.findsTokens) return { tokens: [], hidden: own, symbols: own, isSlow: true }
  const known = new Map([...vocab, ...own.map(({ content, id }) => [content, id] as const)])
  const tokens = new Map(config.added.map(token => [token.content, token]))
  let nextId = known.size + config.added.filter(({ content }) => !known.has(content)).length
  for (const spec of config.specialTokens) {
    if (tokens.has(spec.content)) continue
    tokens.set(spec.content, { ...spec, id: known.get(spec.content) ?? nextId++ })
  }
  return { tokens: [...tokens.values()], hidden: own, isSlow: true }
}

async function isThere(folder: string, name: FileName): Promise<boolean> {
  return stat(join(folder, name)).then(
    () => true,
    () => false,
  )
}

async function readLimited(folder: string, name: FileName): Promise<Buffer> {
  return readFile(await checkSize(folder, name))
}

/** Path of the file, which is there and not too large to be one. */
async function checkSize(folder: string, name: FileName): Promise<string> {
  const file = join(folder, name)
  const size = await stat(file).then(
    ({ size }) => size,
    () => undefined,
  )
  if (size === undefined || size > maxFileBytes[name]) {
    const found = size === undefined ? 'no such file' : `${size} bytes`
    throw new FormatError({ file, expected: `a tokenizer of at most ${maxFileBytes[name]} bytes`, found })
  }
  return file
}
