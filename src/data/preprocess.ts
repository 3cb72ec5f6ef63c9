import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { InputError, UnsupportedError } from '../errors.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import type { DatasetCount } from '../formats/indexed-dataset-writer.ts'
import { type ArrangedDatasets, arrangeAll } from './arrange-datasets.ts'
import { type CorpusEncoder, createCorpusEncoder, type EncodeSettings } from './corpus-encoder.ts'
import { createNames, measureDatasets, removeDatasets, type WrittenSet } from './dataset-names.ts'
import { type CorpusFiles, checkUnchanged, type InputPlan, planInput } from './encode-corpora.ts'
import { createEncodePool, type EncodePool } from './encode-pool.ts'
import type { HandlerOptions } from './handlers/handler.ts'
import { handlerOf } from './handlers/registry.ts'
import { checkRules, corporaOf, type PreprocessOptions } from './preprocess-options.ts'
import { type InputFile, makeReport, type PreprocessReport } from './preprocess-report.ts'
import { identityOf, removeResumePoint, resumeFile } from './resume-point.ts'
import type { RowCount } from './row-count.ts'
import { removeStaleCaches } from './stale-caches.ts'
import { loadTokenizerImage } from './tokenizer/tokenizer.ts'
import { type Resume, type WrittenRows, writeRows } from './write-rows.ts'

export type { PreprocessOptions } from './preprocess-options.ts'

export interface PreprocessResult extends WrittenSet {
  /** What was set aside; absent when nothing was to be. */
  readonly validation?: WrittenSet | undefined
  readonly vocabSize: number
  readonly eosId?: number | undefined
  readonly report: PreprocessReport
}

/** Input from which on threads pay for their start. */
const threadsFromBytes = 8_000_000

/**
 * Turns a corpus into Megatron datasets, byte for byte as ModelLink's preprocess_data.py does.
 *
 * Memory is the tokenizer's tables (about 40 MB), which threads share, 20 MB of caches for each thread, and some MiB of
 * rows; packing, blending and validation data add about 50 bytes a document (20 million of them in a GiB). The files
 * appear at the end, complete, or not at all; index caches that Megatron made of earlier files at the same prefix are
 * removed, for it does not notice.
 * @throws InputError for rules that cannot be, when the tokenizer has no eos to append, when no row is kept, or a file
 * is written to meanwhile; FormatError for a damaged file or row.
 */
export async function preprocessCorpus(options: PreprocessOptions): Promise<PreprocessResult> {
  const { outputPrefix, seqLength, pack = false, validation, seed = 1234, signal, onProgress } = options
  const handler = handlerOf(options.handler, handlerOptionsOf(options))
  const { corpora, weights } = corporaOf(options)
  checkRules(options, handler)
  const input = await planInput(corpora)
  const settings = settingsOf(options)
  const pool = createPool(options, input, settings)
  let loaded: Promise<CorpusEncoder> | undefined
  const encoder = () => {
    loaded ??= createCorpusEncoder(settings)
    return loaded
  }
  try {
    const facts = pool ? await pool.facts : (await encoder()).facts
    const names = createNames(handler, { outputPrefix, jsonKeys: corpora[0]?.jsonKeys ?? [] })
    const isArranged = pack || validation !== undefined || weights !== undefined
    const prefixes = isArranged ? names.rows : names.train
    const resume = await resumeOf(options, { settings, corpora, isArranged })
    const columns = (jsonKeys: readonly string[]) => handler.columns(jsonKeys)
    const rows = await writeRows(input, {
      prefixes,
      pool,
      encoder,
      columns,
      skipBad: settings.skipBadRows,
      resume,
      signal,
      onProgress,
    })
    // The threads end while the files are brought to the disk.
    void pool?.close()
    await checkUnchanged(input).catch(async error => {
      await rows.discard()
      throw error
    })
    if (rows.count.kept === 0) {
      await rows.discard()
      throw nothingKept(filesOf(corpora), rows.count, seqLength)
    }
    const kept = await appear(rows, { prefixes, others: isArranged ? [] : [outputPrefix], signal })
    let written: ArrangedDatasets = { train: kept, passes: corpora.map(() => 1) }
    if (isArranged) {
      const packing = pack && seqLength !== undefined
      const rule = packing ? { seqLength, padId: facts.padId ?? facts.eosId ?? 0 } : undefined
      written = await arrangeAll(names, { documents: rows.documents, validation, seed, weights, pack: rule, signal })
      await removeDatasets(prefixes)
    }
    if (resume) await removeResumePoint(resumeFile(outputPrefix))
    const train = names.setOf('train', written.train)
    const aside = written.validation && names.setOf('validation', written.validation)
    const report = makeReport({
      ...{ count: rows.count, inputs: await describeInputs(filesOf(corpora), options.digestOf), handler: handler.name },
      ...{ seqLength, isInstruction: names.isInstruction, vocabSize: facts.vocabSize, passes: written.passes },
      ...{ keptTokens: names.setOf('rows', kept).tokens, train: countOf(train), validation: aside && countOf(aside) },
    })
    if (options.reportFile !== undefined) await writeWhole(options.reportFile, `${JSON.stringify(report, null, 2)}\n`)
    onProgress?.(input.totalBytes, input.totalBytes)
    return { ...train, ...(aside && { validation: aside }), vocabSize: facts.vocabSize, eosId: facts.eosId, report }
  } finally {
    await pool?.close()
  }
}

function settingsOf(options: PreprocessOptions): EncodeSettings {
  const { seqLength = Number.POSITIVE_INFINITY, overflow = 'drop', pack, onBadRow } = options
  return {
    handlerOptions: handlerOptionsOf(options),
    ...{ handler: options.handler, tokenizerDir: options.tokenizerDir, appendEod: options.appendEod ?? false },
    ...{ seqLength, overflow, limit: pack ? seqLength - 1 : seqLength, skipBadRows: onBadRow === 'skip' },
  }
}

function handlerOptionsOf({ promptType, mapKeys, compat }: PreprocessOptions): HandlerOptions {
  return { promptType, mapKeys, compat }
}

/** Functions cannot be sent to a thread, so that a handler of the user's own runs in this one. */
function createPool(
  { workers, handler }: PreprocessOptions,
  { totalBytes }: InputPlan,
  settings: EncodeSettings,
): EncodePool | undefined {
  const threads = workers ?? (totalBytes >= threadsFromBytes ? Math.min(availableParallelism(), 4) : 1)
  if (threads === 1 || totalBytes === 0 || typeof handler !== 'string') return undefined
  const image = loadTokenizerImage(settings.tokenizerDir).catch(error => {
    // Each thread does what is then to be done.
    if (error instanceof UnsupportedError) return undefined
    throw error
  })
  return createEncodePool(settings, { threads, image })
}

async function resumeOf(
  { resumeEveryBytes, outputPrefix, tokenizerDir }: PreprocessOptions,
  work: { settings: EncodeSettings; corpora: readonly CorpusFiles[]; isArranged: boolean },
): Promise<Resume | undefined> {
  if (resumeEveryBytes === undefined) return undefined
  const identity = await identityOf(work, { files: filesOf(work.corpora), tokenizerDir })
  return { outputPrefix, everyBytes: resumeEveryBytes, identity }
}

/** Makes the encoded rows appear at their prefixes. */
async function appear(
  rows: WrittenRows,
  {
    prefixes,
    others,
    signal,
  }: { prefixes: readonly string[]; others: readonly string[]; signal?: AbortSignal | undefined },
): Promise<readonly DatasetCount[]> {
  const { writers, isEncoded } = rows
  if (isEncoded) return measureDatasets(prefixes)
  try {
    signal?.throwIfAborted()
    await removeStaleCaches([...others, ...prefixes])
    await Promise.all(writers.map(writer => writer.retire()))
    const counts: DatasetCount[] = []
    for (const writer of writers) counts.push(await writer.finish())
    await rows.noteEncoded()
    return counts
  } finally {
    await Promise.all(writers.map(writer => writer.abort()))
  }
}

function filesOf(corpora: readonly CorpusFiles[]): readonly string[] {
  return corpora.flatMap(({ files }) => files)
}

function countOf({ documents, sequences, tokens }: WrittenSet): DatasetCount {
  return { documents, sequences, tokens }
}

async function describeInputs(
  files: readonly string[],
  digestOf: PreprocessOptions['digestOf'],
): Promise<readonly InputFile[]> {
  const inputs: InputFile[] = []
  for (const file of files) {
    const { size } = await stat(file)
    inputs.push({ file, bytes: size, ...(digestOf && { digest: await digestOf(file) }) })
  }
  return inputs
}

function nothingKept(files: readonly string[], count: RowCount, seqLength: number | undefined): InputError {
  const { rows, empty, invalidTurns, wrongColumns, bad, overLength } = count
  const turns = invalidTurns > 0 ? `, ${invalidTurns} have turns out of order` : ''
  const skipped = wrongColumns + bad > 0 ? ` (${count.badRows[0]})` : ''
  const wrong = wrongColumns > 0 ? `, ${wrongColumns} have wrong columns` : ''
  const unread = bad > 0 ? `, ${bad} cannot be read` : ''
  const long = overLength > 0 ? `, ${overLength} have ${seqLength} tokens or more` : ''
  return new InputError(
    `No row of ${files.join(', ')} was kept: of ${rows} rows ${empty} are empty${turns}${wrong}${unread}${skipped}${long}.`,
    {
      field: 'files',
      hint: overLength > 0 ? 'A greater seqLength would keep them.' : 'Are these the right files?',
    },
  )
}
