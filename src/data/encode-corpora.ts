import { stat } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import { FormatError, InputError } from '../errors.ts'
import { type DataRecord, type RecordBatch, setColumn } from '../formats/record-batch.ts'
import type { CorpusEncoder } from './corpus-encoder.ts'
import type { EncodePool } from './encode-pool.ts'
import { type BatchPart, type EncodedBlock, roomsOf } from './encode-rows.ts'
import { cutLineRanges, type LineRange, lineRoomBytes, type RangeLines, readLineRange } from './json-line-ranges.ts'
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
  /** Threads; without them all is encoded in this thread. */
  readonly pool?: EncodePool | undefined
  /** Called when this thread has to encode. */
  encoder(): Promise<CorpusEncoder>
  /** Columns that the handler reads, for these keys; undefined for all. */
  columns(jsonKeys: readonly string[]): readonly string[] | undefined
  readonly skipBad: boolean
  readonly signal?: AbortSignal | undefined
}

/** Rows of one block of a file that is read in sequence: enough work for one message between threads. */
const blockRows = 512

/** Ranges or blocks that each thread may be ahead of what is asked for. */
const rangesAhead = 4

/** Encodes the input from a position on, in its order, whatever the number of threads. */
export async function* encodeInput(plan: InputPlan, options: EncodeInputOptions): AsyncGenerator<EncodedPart> {
  const { from, pool, signal } = options
  const keysOf = ({ corpus }: Piece) => plan.corpora[corpus]?.jsonKeys ?? []
  const ahead: Promise<EncodedBlock>[] = []
  let asked = from.piece
  // Of the next piece, while this thread encodes the one before.
  let read: Promise<RangeLines> | undefined
  const lineRooms = pool ? [] : [0, 1].map(() => Buffer.allocUnsafeSlow(lineRoomBytes))
  let rooms: readonly ArrayBuffer[] = []
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
        ahead.push(pool.encode({ range: wanted.range }, keysOf(wanted)))
        asked++
      }
      block = await untilAborted(ahead.shift() as Promise<EncodedBlock>, signal)
    } else {
      const lines = await (read ?? readLineRange(piece.range, lineRooms[index % 2]))
      const following = plan.pieces[index + 1]?.range
      read = following && readLineRange(following, lineRooms[(index + 1) % 2])
      read?.catch(() => {})
      block = (await options.encoder()).encodeRange(piece.range, lines, { jsonKeys: keysOf(piece), rooms })
    }
    const next = { piece: index + 1, rows: 0 }
    yield { corpus: piece.corpus, block, next, doneBytes: piece.before + piece.bytes }
    // Nobody looks at the block any more.
    if (pool) pool.release(roomsOf(block))
    else rooms = roomsOf(block)
  }
}

/** Rows of a batch that are encoded together. */
interface Block {
  readonly batch: RecordBatch
  readonly part: BatchPart
  /** Rows of the file that are done with after it. */
  readonly rows: number
  readonly doneBytes: number
}

type SequenceOptions = EncodeInputOptions & { readonly jsonKeys: readonly string[]; readonly rows: number }

/** Rows of a file from row `rows` on, in blocks, which threads may encode while others are read. */
async function* encodeSequence(piece: Piece, options: SequenceOptions) {
  const { signal, pool } = options
  const { corpus } = piece
  const ahead: { readonly block: Promise<EncodedBlock>; readonly rows: number; readonly doneBytes: number }[] = []
  const next = async () => {
    const { block, rows, doneBytes } = ahead.shift()!
    return { corpus, block: await untilAborted(block, signal), rows, doneBytes }
  }
  for await (const { rows, doneBytes, ...what } of readBlocks(piece, options)) {
    const block = pool ? encodeElsewhere(what, { ...options, pool }) : encodeHere(what, options)
    block.catch(() => {})
    ahead.push({ block, rows, doneBytes })
    if (ahead.length >= (pool ? rangesAhead * pool.threads : 1)) yield await next()
    // A row group of Parquet may take a minute: let timers and signals through.
    await setImmediate()
    signal?.throwIfAborted()
  }
  while (ahead.length > 0) yield await next()
}

async function* readBlocks({ file, before, bytes }: Piece, options: SequenceOptions): AsyncGenerator<Block> {
  const { jsonKeys, signal, columns, skipBad } = options
  let seen = 0
  let doneBytes = before
  for await (const batch of readRecords([file], { signal, skipBad, columns: columns(jsonKeys) })) {
    const end = batch.records.length
    const isBegun = options.rows > seen
    seen += batch.bad?.rows ?? 0
    let from = Math.max(0, options.rows - seen)
    for (let isFirst = !isBegun && batch.bad !== undefined; isFirst || from < end; from += blockRows) {
      const to = Math.min(from + blockRows, end)
      isFirst = false
      if (to === end) doneBytes = before + Math.min(bytes, batch.bytesRead)
      yield { batch, part: { jsonKeys, from, to, isContinued: isBegun || from > 0 }, rows: seen + to, doneBytes }
    }
    seen += end
  }
}

async function encodeHere(
  { batch, part }: Pick<Block, 'batch' | 'part'>,
  { encoder }: Pick<EncodeInputOptions, 'encoder'>,
): Promise<EncodedBlock> {
  return (await encoder()).encodeBatch(batch, part)
}

/** In a thread that knows nothing but the rows: where one of them is wrong, this thread finds its place and says so. */
async function encodeElsewhere(
  what: Pick<Block, 'batch' | 'part'>,
  { encoder, columns, pool }: Pick<EncodeInputOptions, 'encoder' | 'columns'> & { readonly pool: EncodePool },
): Promise<EncodedBlock> {
  const { batch, part } = what
  const wanted = columns(part.jsonKeys)
  const records = batch.records.slice(part.from, part.to).map(record => (wanted ? pick(record, wanted) : record))
  const { file, bytesRead } = batch
  const block = await pool.encode({ rows: { file, records, bytesRead } }, part.jsonKeys).catch(error => {
    if (error instanceof FormatError) return undefined
    throw error
  })
  const isBad = batch.bad !== undefined && part.isContinued !== true
  return block && !isBad && block.count.wrongColumns === 0 ? block : encodeHere(what, { encoder })
}

function pick(record: DataRecord, columns: readonly string[]): DataRecord {
  const picked: Record<string, unknown> = {}
  for (const column of columns) if (Object.hasOwn(record, column)) setColumn(picked, column, record[column])
  return picked
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
