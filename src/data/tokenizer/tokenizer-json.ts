import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, UnsupportedError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import { assignIds, readAddedTokens } from './added-vocabulary.ts'
import { type ScannedFile, scanBpeFile } from './bpe-file-scan.ts'
import { type BpeModel, readMerges, readVocabulary } from './bpe-model.ts'
import { normalizerSpec } from './normalizer-spec.ts'
import { readPostProcessor } from './post-processor.ts'
import { readPreTokenizer } from './pre-tokenizer.ts'
import { bpeTables } from './section-encoder.ts'
import { createTableMemory, type TableMemory } from './table-memory.ts'
import { parseJsonObject, type TokenizerConfig } from './tokenizer-config.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'
import { readUnigram } from './unigram-json.ts'
import type { TokenIds } from './vocabulary.ts'

/** Reads `tokenizer.json`. @throws FormatError or UnsupportedError */
export async function readTokenizerJson(folder: string, config: TokenizerConfig): Promise<TokenizerParts> {
  const file = join(folder, 'tokenizer.json')
  const memory = createTableMemory()
  const bytes = await readInto(memory, file)
  const scanned = scanBpeFile(bytes, memory)
  const json = scanned?.json ?? parseJsonObject(bytes.toString('utf8'), file)
  const isUnigram = (json.model as ModelJson | undefined)?.type === 'Unigram'
  const model = isUnigram
    ? readUnigram(json.model as ModelJson, file)
    : readModel(json.model, { file, scanned, memory })
  const { vocab } = model
  const tokens = mergeAddedTokens(json.added_tokens, { vocab, file, config })
  const preTokenizer = readPreTokenizer(json.pre_tokenizer)
  if (isUnigram && preTokenizer.kind === 'byteLevel') {
    throw new UnsupportedError(`${file}: a Unigram model behind ByteLevel, which this version does not know.`)
  }
  return {
    file,
    memory,
    vocab,
    tokens,
    hidden: [],
    isSlow: false,
    normalizer: normalizerSpec(json.normalizer),
    preTokenizer,
    tables: () => ('tables' in model ? model.tables : bpeTables(model, preTokenizer)),
    decoder: json.decoder,
    template: readPostProcessor(json.post_processor, file),
  }
}

/** The file's bytes, where the kernel can read them. */
async function readInto(memory: TableMemory, file: string): Promise<Buffer> {
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    if (size > maxBytes) throw new FormatError({ file, expected: `at most ${maxBytes} bytes`, found: `${size}` })
    const { buffer, byteOffset } = memory.bytes(size)
    const bytes = Buffer.from(buffer, byteOffset, size)
    let filled = 0
    for (let read = -1; read !== 0; filled += read) {
      ;({ bytesRead: read } = await handle.read(bytes, filled, size - filled))
    }
    return bytes.subarray(0, filled)
  } finally {
    await handle.close()
  }
}

/** Twenty times the longest that is published, and still a string. */
const maxBytes = 1 << 28

/** The added tokens of `tokenizer.json` with what the configuration says of them, and those that it alone has. */
export function mergeAddedTokens(
  list: unknown,
  { vocab, file, config }: { vocab: TokenIds; file: string; config: TokenizerConfig },
): AddedToken[] {
  const specs = readAddedTokens(list, { vocab, file })
  const known = new Set([...specs, ...config.added].map(({ content }) => content))
  const missing = config.specialTokens.filter(({ content }) => !known.has(content))
  return assignIds([...specs, ...config.added, ...missing], vocab)
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

function readModel(
  model: unknown,
  { file, scanned, memory }: { file: string; scanned: ScannedFile | undefined; memory: TableMemory },
): BpeModel {
  if (typeof model !== 'object' || model === null) throw new FormatError({ file, expected: 'a model', found: 'none' })
  const json = model as ModelJson
  if (json.type !== undefined && json.type !== 'BPE') {
    throw new UnsupportedError(`${file}: a model of type ${json.type}; this version knows BPE and Unigram.`)
  }
  for (const name of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix'] as const) {
    if (json[name])
      throw new UnsupportedError(
        `${file}: a BPE model with ${name} ${JSON.stringify(json[name])}, which this version does not know.`,
      )
  }
  const vocab = scanned?.vocab ?? readVocabulary(json.vocab, file)
  return {
    file,
    memory,
    vocab,
    merges: scanned?.merges ?? readMerges(json.merges, { vocab, file }),
    unkToken: typeof json.unk_token === 'string' ? json.unk_token : undefined,
    fuseUnk: json.fuse_unk === true,
    byteFallback: json.byte_fallback === true,
    ignoreMerges: json.ignore_merges === true,
  }
}
