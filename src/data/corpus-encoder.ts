import { InputError } from '../errors.ts'
import { parseLines } from '../formats/json-lines.ts'
import { tryParseRecord } from '../formats/json-record.ts'
import { linePlace } from '../formats/line-place.ts'
import { type BadRows, gatherBadRows, type RecordBatch } from '../formats/record-batch.ts'
import { type BlockPart, createRowEncoders, type EncodedBlock, type RowEncoder } from './encode-rows.ts'
import { generalPretrainHandler } from './handlers/general-pretrain.ts'
import { type EncodeContext, type Handler, type HandlerOptions, withEnd } from './handlers/handler.ts'
import { type HandlerName, handlerOf } from './handlers/registry.ts'
import type { LineRange, RangeLines } from './json-line-ranges.ts'
import type { EncodedLines } from './tokenizer/kernel-encoder.ts'
import { createTokenizer, loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts'
import type { TokenizerImage } from './tokenizer/tokenizer-image.ts'

/** How a corpus is encoded. Plain data but for a handler of the user's own: what threads are told. */
export interface EncodeSettings {
  readonly handler: HandlerName | Handler
  readonly handlerOptions: HandlerOptions
  readonly tokenizerDir: string
  readonly appendEod: boolean
  readonly seqLength: number
  readonly overflow: 'drop' | 'truncate' | 'split'
  /** Longest sequence that cutting leaves. */
  readonly limit: number
  readonly skipBadRows: boolean
}

/** What is to be known of a tokenizer once its texts are encoded. */
export interface TokenizerFacts {
  readonly vocabSize: number
  readonly eosId?: number | undefined
  readonly padId?: number | undefined
}

export interface CorpusEncoder {
  readonly facts: TokenizerFacts
  readonly encodeBatch: RowEncoder
  /** The rows whose lines begin in a range, which `readLineRange` read. */
  encodeRange(range: LineRange, lines: RangeLines, how: BlockPart): EncodedBlock
}

/** Loads the tokenizer unless it is handed over. @throws InputError when it has no eos to append. */
export async function createCorpusEncoder(settings: EncodeSettings, image?: TokenizerImage): Promise<CorpusEncoder> {
  const { tokenizerDir, appendEod, skipBadRows } = settings
  const tokenizer = image ? createTokenizer(image) : await loadTokenizer(tokenizerDir)
  const handler = handlerOf(settings.handler, settings.handlerOptions)
  const { vocabSize, eosId, padId } = handler.tokenizerFacts?.(tokenizer) ?? tokenizer
  const eod = appendEod ? endOf(eosId, tokenizerDir) : undefined
  const { encodeBatch, gatherLines } = createRowEncoders({
    handler,
    context: { tokenizer, eod },
    rule: settings,
    skipBadRows,
    unknownId: unknownIdOf(tokenizer),
  })
  // One for all ranges, so that no thread looks for the lines of more than a few.
  const bad = gatherBadRows({ skipBad: skipBadRows })
  return {
    facts: { vocabSize, eosId, padId },
    encodeBatch,
    encodeRange(range, lines, how) {
      const { jsonKeys } = how
      const encoded = handler === generalPretrainHandler ? encodeTexts(lines, { tokenizer, jsonKeys, eod }) : undefined
      return encoded ? gatherLines(encoded, how) : encodeBatch(parseRows(range, lines, bad), how)
    },
  }
}

function endOf(eosId: number | undefined, folder: string): number {
  if (eosId !== undefined) return eosId
  throw new InputError(`The tokenizer in ${folder} has no eos token to end documents with.`, {
    field: 'appendEod',
    hint: `Name one in ${folder}/tokenizer_config.json, for example "eos_token": "<|endoftext|>", or leave appendEod out.`,
  })
}

/** Some models name the end of text as their unknown token, which then says nothing. */
function unknownIdOf({ unkId, eosId, padId }: Tokenizer): number | undefined {
  return unkId === eosId || unkId === padId ? undefined : unkId
}

/**
 * Encodes one column of the lines without making rows of them; undefined where that cannot be done, and for lines of
 * which one is bad: what is wrong, and where, is then found row by row.
 */
function encodeTexts(
  { bytes, tooLong }: RangeLines,
  { tokenizer, jsonKeys, eod }: EncodeContext,
): EncodedLines | undefined {
  const [key] = jsonKeys
  if (key === undefined || jsonKeys.length > 1 || tooLong) return undefined
  return tokenizer.encodeLines?.({
    ...{ bytes, key, end: eod },
    encodeLine(start, stop) {
      const record = tryParseRecord({ bytes, start, stop, file: '', offset: 0 })
      const text = typeof record !== 'function' && Object.hasOwn(record, key) ? record[key] : undefined
      if (typeof text !== 'string') return 'bad'
      if (text === '') return undefined
      const ids = tokenizer.encode(text)
      return eod === undefined ? ids : withEnd(ids, eod)
    },
  })
}

function parseRows(range: LineRange, { bytes, offset, tooLong }: RangeLines, bad: BadRows): RecordBatch {
  const { file } = range
  const { records, starts } = parseLines(bytes, { file, offset, bad })
  if (tooLong) bad.add(tooLong)
  const locate = (index: number) => linePlace(file, starts[index] ?? offset)
  return { file, records, ...bad.take(), bytesRead: range.end, locate }
}
