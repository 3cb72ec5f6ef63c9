import { setImmediate } from 'node:timers/promises'
import { InputError } from '../errors.ts'
import { createIndexedDataset, type IndexedDatasetWriter } from '../formats/indexed-dataset-writer.ts'
import { ignoredLabel } from './handlers/general-instruction.ts'
import type { Handler } from './handlers/handler.ts'
import { type HandlerName, handlerNamed } from './handlers/registry.ts'
import { measureFiles, readRecords } from './read-records.ts'
import { createRow } from './row.ts'
import { removeStaleCaches } from './stale-caches.ts'
import { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts'

export interface PreprocessOptions {
  /** `.json`, `.jsonl` or `.parquet` files; documents come in this order. */
  readonly files: readonly string[]
  readonly handler: HandlerName
  /** Columns to tokenise, each into a dataset of its own. Default `['text']`. Instruction handlers have their own. */
  readonly jsonKeys?: readonly string[] | undefined
  /** Folder with `tokenizer.json`. */
  readonly tokenizerDir: string
  /** Folder and start of the output files' names; the folder is made if need be. */
  readonly outputPrefix: string
  /** Sequences of this many tokens or more are left out. Default: none are. */
  readonly seqLength?: number | undefined
  /** Whether each document ends with the tokenizer's eos. Default false. */
  readonly appendEod?: boolean | undefined
  readonly signal?: AbortSignal | undefined
  /** Called after each batch, and once at the end with `doneBytes === totalBytes`. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

export interface PreprocessResult {
  /** What Megatron's `--data-path` wants: the dataset's prefix, but for instruction data the output prefix. */
  readonly dataPath: string
  /** The datasets, in the order of the handler's keys. */
  readonly datasets: readonly WrittenDataset[]
  readonly rows: number
  /** Of the first dataset for instruction data (all three are alike), of all together otherwise. */
  readonly documents: number
  readonly sequences: number
  readonly tokens: number
  /** Tokens with a label other than -100; all of them where there are no labels. */
  readonly trainTokens: number
  /** Sequences left out because they have `seqLength` tokens or more. */
  readonly droppedOverLength: number
  /** Rows without any text. */
  readonly emptyRows: number
  readonly vocabSize: number
  readonly eosId?: number
}

export interface WrittenDataset {
  readonly key: string
  /** Path without `.idx` and `.bin`. */
  readonly prefix: string
  readonly documents: number
  readonly sequences: number
  readonly tokens: number
}

/**
 * Turns a corpus into Megatron datasets, byte for byte as ModelLink's preprocess_data.py does.
 *
 * Memory is the tokenizer's tables (about 60 MB) and one batch of rows. The files appear at the end, complete, or not
 * at all; index caches that Megatron made of earlier files at the same prefix are removed, for it does not notice.
 * @throws InputError when the tokenizer has no eos to append, or no row is kept; FormatError for a damaged file or row.
 */
export async function preprocessCorpus(options: PreprocessOptions): Promise<PreprocessResult> {
  const { files, outputPrefix, seqLength = Number.POSITIVE_INFINITY, jsonKeys = ['text'], signal } = options
  const handler = handlerNamed(options.handler)
  if (!(seqLength > 0))
    throw new InputError(`seqLength is ${seqLength}; it must be at least 1.`, { field: 'seqLength' })
  if (jsonKeys.length === 0 || new Set(jsonKeys).size < jsonKeys.length) {
    throw new InputError(`jsonKeys are ${JSON.stringify(jsonKeys)}; at least one is needed, and each once.`, {
      field: 'jsonKeys',
    })
  }
  const totalBytes = await measureFiles(files)
  const tokenizer = await loadTokenizer(options.tokenizerDir)
  const context = { tokenizer, jsonKeys, eod: options.appendEod ? endOf(tokenizer, options.tokenizerDir) : undefined }

  const keys = handler.keys(jsonKeys)
  const prefixes = keys.map(key => `${outputPrefix}${handler.infix}_${key}_document`)
  const writers: IndexedDatasetWriter[] = []
  const count = { rows: 0, emptyRows: 0, droppedOverLength: 0, trainTokens: 0, kept: 0 }
  try {
    for (const prefix of prefixes) writers.push(await createIndexedDataset(prefix))
    const labels = keys.indexOf(handler.labels ?? '')
    const progress = createProgress(options.onProgress, totalBytes)
    for await (const batch of readRecords(files, { signal, columns: handler.columns(jsonKeys) })) {
      for (let i = 0; i < batch.records.length; i++) {
        const encoded = handler.encode(createRow(batch, i), context)
        count.rows++
        // A row group of Parquet may take a minute: let timers and signals through.
        if (count.rows % 1024 === 0) await setImmediate()
        signal?.throwIfAborted()
        if (encoded.every(sequences => sequences.length === 0)) count.emptyRows++
        for (const [key, sequences] of encoded.entries()) {
          if (sequences.length === 0) continue
          const kept = sequences.filter(sequence => sequence.length < seqLength)
          // A document all of whose sequences are too long is closed all the same, as ModelLink does.
          await writers[key]?.addDocument(kept)
          if (key === 0 || labels < 0) {
            count.droppedOverLength += sequences.length - kept.length
            count.kept += kept.length
          }
          if (key === labels || labels < 0) for (const sequence of kept) count.trainTokens += countTrained(sequence)
        }
      }
      progress(batch.file, batch.bytesRead)
    }
    if (count.kept === 0) throw nothingKept({ files, handler, seqLength, ...count })
    signal?.throwIfAborted()
    await removeStaleCaches([outputPrefix, ...prefixes])
    await Promise.all(writers.map(writer => writer.retire()))
    const datasets: WrittenDataset[] = []
    for (const [i, writer] of writers.entries()) {
      datasets.push({ key: keys[i] ?? '', prefix: writer.prefix, ...(await writer.finish()) })
    }
    options.onProgress?.(totalBytes, totalBytes)
    const counted = labels < 0 ? datasets : datasets.slice(0, 1)
    const sum = (field: 'documents' | 'sequences' | 'tokens') =>
      counted.reduce((total, dataset) => total + dataset[field], 0)
    return {
      dataPath: handler.infix === '' ? (prefixes[0] ?? outputPrefix) : outputPrefix,
      datasets,
      rows: count.rows,
      documents: sum('documents'),
      sequences: sum('sequences'),
      tokens: sum('tokens'),
      trainTokens: count.trainTokens,
      droppedOverLength: count.droppedOverLength,
      emptyRows: count.emptyRows,
      vocabSize: tokenizer.vocabSize,
      ...(tokenizer.eosId === undefined ? {} : { eosId: tokenizer.eosId }),
    }
  } finally {
    await Promise.all(writers.map(writer => writer.abort()))
  }
}

function endOf(tokenizer: Tokenizer, folder: string): number {
  if (tokenizer.eosId !== undefined) return tokenizer.eosId
  throw new InputError(`The tokenizer in ${folder} has no eos token to end documents with.`, {
    field: 'appendEod',
    hint: `Name one in ${folder}/tokenizer_config.json, for example "eos_token": "<|endoftext|>", or leave appendEod out.`,
  })
}

function countTrained(sequence: Int32Array): number {
  let trained = 0
  for (let i = 0; i < sequence.length; i++) if (sequence[i] !== ignoredLabel) trained++
  return trained
}

/** Turns bytes read of each file into bytes read of all. */
function createProgress(report: PreprocessOptions['onProgress'], totalBytes: number) {
  let [file, inFile, before] = ['', 0, 0]
  return (current: string, bytesRead: number) => {
    if (current !== file) before += inFile
    file = current
    inFile = bytesRead
    report?.(Math.min(before + inFile, totalBytes), totalBytes)
  }
}

function nothingKept(found: {
  files: readonly string[]
  handler: Handler
  seqLength: number
  rows: number
  emptyRows: number
  droppedOverLength: number
}): InputError {
  const { files, rows, emptyRows, droppedOverLength, seqLength } = found
  const long = droppedOverLength > 0 ? `, ${droppedOverLength} have ${seqLength} tokens or more` : ''
  return new InputError(`No row of ${files.join(', ')} was kept: of ${rows} rows ${emptyRows} are empty${long}.`, {
    field: 'files',
    hint: droppedOverLength > 0 ? 'A greater seqLength would keep them.' : 'Are these the right files?',
  })
}
