import { stat } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import { InputError } from '../errors.ts'
import type { CorpusEncoder } from './corpus-encoder.ts'
import type { EncodePool } from './encode-pool.ts'
import type { EncodedBlock } from './encode-rows.ts'
import { cutLineRanges, type LineRange } from './json-line-ranges.ts'
import { measureFiles, readRecords } from './read-records.ts'

/** Files whose rows are read alike. */
export interface CorpusFiles {
  /** In the order in which their rows come. */
  readonly files: readonly string[]
  /** Columns to tokenise. */
  readonly jsonKeys: readonly string[]
}

/** A part of the input that is read by itself: some lines, or all of a file whose rows come in sequence. */
interface Piece {
  readonly corpus: number
  readonly file: string
  /** Absent for a file that is read from its beginning to its end. */
  readonly range?: LineRange
  /** Bytes of all pieces before. */
  readonly before: number
  readonly bytes: number
}

export interface InputPlan {
  readonly corpora: readonly CorpusFiles[]
  readonly pieces: readonly Piece[]
  /** What the files were like before any was read. */
  readonly stats: readonly FileStat[]
  readonly totalBytes: number
  /** Bytes that threads can share among them. */
  readonly rangeBytes: number
}

interface FileStat {
  readonly file: string
  readonly size: number
  readonly mtimeMs: number
}

/** Where in the input all before is done with. */
export interface InputPosition {
  readonly piece: number
  /** Rows of that piece, also bad ones, that are done with, too. */
  readonly rows: number
}

/** Cuts the files into pieces. @throws InputError for a missing file; UnsupportedError for an unknown extension. */
export async function planInput(corpora: readonly CorpusFiles[]): Promise<InputPlan> {
  const pieces: Piece[] = []
  const stats: FileStat[] = []
  let totalBytes = 0
  let rangeBytes = 0
  for (const [corpus, { files }] of corpora.entries()) {
    await measureFiles(files)
    for (const file of files) {
      const { size, mtimeMs } = await stat(file)
      stats.push({ file, size, mtimeMs })
      const ranges = await cutLineRanges(file)
      for (const range of ranges ?? []) {
        pieces.push({ corpus, file, range, before: totalBytes + range.start, bytes: range.end - range.start })
      }
      if (ranges) rangeBytes += size
      else pieces.push({ corpus, file, before: totalBytes, bytes: size })
      totalBytes += size
    }
  }
  return { corpora, pieces, stats, totalBytes, rangeBytes }
}

/** @throws InputError for a file that was written to or removed since: what was read of it is neither old nor new. */
export async function checkUnchanged({ stats }: InputPlan): Promise<void> {
  for (const { file, size, mtimeMs } of stats) {
    const now = await stat(file).catch(() => undefined)
    if (now?.size === size && now.mtimeMs === mtimeMs) continue
    const what = now ? `${size} bytes before, ${now.size} bytes now` : 'it is no longer there'
    throw new InputError(`${file} changed while it was read: ${what}.`, {
      field: 'files',
      hint: 'Run it again when nobody writes to the file.',
    })
  }
}

/** Some encoded rows, with where the input stands after them. */
export interface EncodedPart {
  readonly corpus: number
  readonly block: EncodedBlock
  readonly next: InputPosition
  readonly doneBytes: number
}

export interface EncodeInputOptions {
  readonly from: InputPosition
  /** Threads for ranges of lines; without them all is encoded in this thread. */
  readonly pool?: EncodePool | undefined
  /** Called when this thread has to encode. */
  encoder(): Promise<CorpusEncoder>
  /** Columns that the handler reads, for these keys; undefined for all. */
  columns(jsonKeys: readonly string[]): readonly string[] | undefined
  readonly skipBad: boolean
  readonly signal?: AbortSignal | undefined
}

/** Rows of one block of a file that is read in sequence. */
const blockRows = 1024

/** Ranges that each thread may be ahead of what is asked for. */
const rangesAhead = 4

/** Encodes the input from a position on, in its order, whatever the number of threads. */
export async function* encodeInput(plan: InputPlan, options: EncodeInputOptions): AsyncGenerator<EncodedPart> {
  const { from, pool, signal } = options
  const keysOf = ({ corpus }: Piece) => plan.corpora[corpus]?.jsonKeys ?? []
  const ahead: Promise<EncodedBlock>[] = []
  let asked = from.piece
  for (let index = from.piece; index < plan.pieces.length; index++) {
    const piece = plan.pieces[index] as Piece
    signal?.throwIfAborted()
    if (!piece.range) {
      asked = Math.max(asked, index + 1)
      const rows = index === from.piece ? from.rows : 0
      for await (const part of encodeSequence(piece, { ...options, jsonKeys: keysOf(piece), rows }))
        yield { ...part, next: { piece: index, rows: part.rows } }
      continue
    }
    let block: EncodedBlock
    if (pool) {
      while (asked < plan.pieces.length && ahead.length < rangesAhead * pool.threads) {
        const wanted = plan.pieces[asked] as Piece
        if (!wanted.range) break
        ahead.push(pool.encodeRange(wanted.range, keysOf(wanted)))
        asked++
      }
      block = await untilAborted(ahead.shift() as Promise<EncodedBlock>, signal)
    } else block = await (await options.encoder()).encodeRange(piece.range, keysOf(piece))
    const next = { piece: index + 1, rows: 0 }
    yield { corpus: piece.corpus, block, next, doneBytes: piece.before + piece.bytes }
  }
}

/** Rows of a file from row `rows` on, in blocks, each with the rows that are done with after it. */
async function* encodeSequence(
  { corpus, file, before, bytes }: Piece,
  options: EncodeInputOptions & { readonly jsonKeys: readonly string[]; readonly rows: number },
) {
  const { jsonKeys, signal, encoder, columns, skipBad } = options
  const { encodeBatch } = await encoder()
  let seen = 0
  let doneBytes = before
  for await (const batch of readRecords([file], { signal, skipBad, columns: columns(jsonKeys) })) {
    const end = batch.records.length
    const isBegun = options.rows > seen
    seen += batch.bad?.rows ?? 0
    let from = Math.max(0, options.rows - seen)
    for (let isFirst = !isBegun && batch.bad !== undefined; isFirst || from < end; from += blockRows) {
      const to = Math.min(from + blockRows, end)
      const block = encodeBatch(batch, { jsonKeys, from, to, isContinued: isBegun || from > 0 })
      isFirst = false
      if (to === end) doneBytes = before + Math.min(bytes, batch.bytesRead)
      yield { corpus, block, rows: seen + to, doneBytes }
      // A row group of Parquet may take a minute: let timers and signals through.
      await setImmediate()
      signal?.throwIfAborted()
    }
    seen += end
  }
}

/** A thread that has much to do must not hold up the end. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
