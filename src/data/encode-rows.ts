import { FormatError } from '../errors.ts'
import type { DocumentBlock } from '../formats/indexed-dataset-writer.ts'
import type { Place } from '../formats/line-place.ts'
import type { BadRecords, RecordBatch } from '../formats/record-batch.ts'
import { ignoredLabel } from './handlers/general-instruction.ts'
import {
  dropped as droppedRows,
  dropReasonOf,
  type EncodeContext,
  type Encoded,
  type Handler,
} from './handlers/handler.ts'
import { createRow } from './row.ts'
import { createCount, type GrowingCount, namedBadRows, type RowCount } from './row-count.ts'
import { fits, type OverflowRule, ruleSequence } from './sequence-rules.ts'
import type { EncodedLines } from './tokenizer/kernel-encoder.ts'

/** Rows as they go into the datasets. */
export interface EncodedBlock {
  /** One for each of the handler's keys. */
  readonly datasets: readonly (DocumentBlock & { readonly ids: Int32Array<ArrayBuffer> })[]
  readonly count: RowCount
}

/** The memory of a block's ids, for another block: new memory costs more than writing to it. */
export function roomsOf({ datasets }: EncodedBlock): ArrayBuffer[] {
  return datasets.map(({ ids }) => ids.buffer)
}

export interface RowEncoderOptions {
  readonly handler: Handler
  readonly context: Omit<EncodeContext, 'jsonKeys'>
  readonly rule: Omit<OverflowRule, 'labels' | 'eod'>
  readonly skipBadRows: boolean
  /** Id of the token for what the vocabulary does not have. */
  readonly unknownId?: number | undefined
}

/** What goes into a block. */
export interface BlockPart {
  readonly jsonKeys: readonly string[]
  /** Memory for the ids of each dataset, as far as there are no more. */
  readonly rooms?: readonly ArrayBuffer[] | undefined
}

/** Rows of a batch to encode. */
export interface BatchPart extends BlockPart {
  /** Default: the first. */
  readonly from?: number
  /** Exclusive. Default: all to the last. */
  readonly to?: number
  /** True when rows of the batch, and with them the bad ones before it, are done with already. */
  readonly isContinued?: boolean
}

/** Encodes rows of a batch into a block of documents. */
export type RowEncoder = (batch: RecordBatch, part: BatchPart) => EncodedBlock

/** Makes blocks of documents: of rows, or of lines that are encoded already, of one sequence for one key, or none. */
export interface RowEncoders {
  readonly encodeBatch: RowEncoder
  gatherLines(lines: EncodedLines, part: BlockPart): EncodedBlock
}

/**
 * Sequences of instruction data are kept or left out in all keys alike. A document all of whose sequences are left out
 * is closed all the same, as ModelLink does.
 */
export function createRowEncoders(options: RowEncoderOptions): RowEncoders {
  const { handler, context, skipBadRows } = options
  let unnamed = namedBadRows
  const encodeBatch: RowEncoder = (batch, part) => {
    const { jsonKeys, from = 0, to = batch.records.length, isContinued = false } = part
    const gathering = createGathering(options, part)
    const { count } = gathering
    if (batch.bad && !isContinued) countBad(count, batch.bad)
    const rowContext = { ...context, jsonKeys }
    for (let i = from; i < to; i++) {
      count.rows++
      let encoded: Encoded
      try {
        encoded = handler.encode(createRow(unnamed > 0 ? batch : { ...batch, locate: nowhere }, i), rowContext)
      } catch (error) {
        if (!skipBadRows || !(error instanceof FormatError)) throw error
        count.wrongColumns++
        if (unnamed-- > 0 && count.badRows.length < namedBadRows) count.badRows.push(error.message)
        continue
      }
      addRow(gathering, encoded)
    }
    return gathered(gathering)
  }
  return {
    encodeBatch,
    gatherLines(lines, part) {
      const gathering = createGathering(options, part, lines.ids.length)
      addLines(gathering, lines)
      return gathered(gathering)
    },
  }
}

/** A block of documents in the making, ruled and counted. */
interface Gathering {
  readonly rule: OverflowRule
  readonly unknownId: number | undefined
  /** Places of keys that belong together and are ruled together; others are each for itself. */
  readonly groups: readonly (readonly number[])[]
  readonly buffers: readonly GrowingBlock[]
  readonly count: GrowingCount
}

function createGathering(
  { handler, context, unknownId, rule }: RowEncoderOptions,
  { jsonKeys, rooms = [] }: BlockPart,
  expectedIds = 1 << 16,
): Gathering {
  const { overflow, seqLength, limit } = rule
  const isAligned = handler.infix === '_packed'
  const eod = isAligned ? undefined : context.eod
  const keys = handler.keys(jsonKeys)
  const labels = handler.labels === undefined ? -1 : keys.indexOf(handler.labels)
  return {
    rule: { overflow, seqLength, limit, eod, labels: labels < 0 ? undefined : labels },
    unknownId,
    groups: isAligned ? [keys.map((_, key) => key)] : keys.map((_, key) => [key]),
    buffers: keys.map((_, key) => new GrowingBlock(roomFor(expectedIds, rooms[key]))),
    count: createCount(),
  }
}

// Not a closure of each block: V8 would compile that anew for every block.
function addRow(gathering: Gathering, encoded: Encoded): void {
  const { rule, groups, buffers, count } = gathering
  const dropped = dropReasonOf(encoded)
  if (dropped === 'empty') count.empty++
  if (dropped === 'invalid turns') count.invalidTurns++
  if (dropped) return
  for (const group of groups) {
    const sequences = encoded[group[0] ?? 0]?.length ?? 0
    if (sequences === 0) continue
    let added = 0
    for (let s = 0; s < sequences; s++) {
      const values: Int32Array[] = []
      for (const key of group) values.push(encoded[key]?.[s] ?? new Int32Array())
      const { pieces, overLength, cut, untrained } = ruleSequence(values, rule)
      count.overLength += overLength
      count.cut += cut
      count.untrained += untrained
      for (const piece of pieces) {
        for (let at = 0; at < group.length; at++) buffers[group[at] as number]?.add(piece[at] ?? new Int32Array())
        countPiece(gathering, piece)
      }
      added += pieces.length
    }
    for (const key of group) buffers[key]?.endDocument(added)
  }
}

/** Rows that stay as they are, one behind the other, at once; any other as `addRow` does. */
function addLines(gathering: Gathering, { ids, lengths }: EncodedLines): void {
  const { rule, count } = gathering
  count.rows += lengths.length
  let firstRow = 0
  let firstId = 0
  let at = 0
  for (let row = 0; row < lengths.length; row++) {
    const length = lengths[row] as number
    const end = at + Math.max(0, length)
    if (length < 0 || !fits(length, rule)) {
      addRun(gathering, ids.subarray(firstId, at), lengths.subarray(firstRow, row))
      addRow(gathering, length < 0 ? droppedRows.empty : [[ids.subarray(at, end)]])
      firstRow = row + 1
      firstId = end
    }
    at = end
  }
  addRun(gathering, ids.subarray(firstId, at), lengths.subarray(firstRow))
}

/** Documents of one sequence each. */
function addRun(gathering: Gathering, ids: Int32Array, lengths: Int32Array): void {
  gathering.buffers[0]?.addDocuments(ids, lengths)
  for (const length of lengths) countLength(gathering.count, length)
  countTokens(gathering, ids)
}

function gathered({ buffers, count }: Gathering): EncodedBlock {
  return { datasets: buffers.map(buffer => buffer.take()), count }
}

function countBad(count: GrowingCount, { rows, errors }: BadRecords): void {
  count.rows += rows
  count.bad += rows
  for (const { message } of errors) if (count.badRows.length < namedBadRows) count.badRows.push(message)
}

/** To find the line of a row takes as long as to read the file up to there: for the rows that are named, no others. */
function nowhere(): Place {
  return { place: 'some row' }
}

function countPiece(gathering: Gathering, piece: readonly Int32Array[]): void {
  const [ids = new Int32Array()] = piece
  countLength(gathering.count, ids.length)
  const { labels } = gathering.rule
  countTokens(gathering, ids, labels === undefined ? undefined : piece[labels])
}

/** Without labels all are trained on. */
function countTokens({ count, unknownId }: Gathering, ids: Int32Array, labels?: Int32Array): void {
  if (unknownId !== undefined) count.unknownTokens += occurrences(ids, unknownId)
  count.trainTokens += labels ? labels.length - occurrences(labels, ignoredLabel) : ids.length
}

function countLength(count: GrowingCount, length: number): void {
  count.kept++
  const bucket = Math.max(0, 31 - Math.clz32(length))
  while (count.lengths.length <= bucket) count.lengths.push(0)
  count.lengths[bucket] = (count.lengths[bucket] ?? 0) + 1
}

function occurrences(ids: Int32Array, id: number): number {
  let found = 0
  for (let i = 0; i < ids.length; i++) if (ids[i] === id) found++
  return found
}

/** Memory for so many ids, and a few more, so that it also does for another block. */
function roomFor(ids: number, room: ArrayBuffer | undefined): Int32Array<ArrayBuffer> {
  return room && room.byteLength >= 4 * ids ? new Int32Array(room) : new Int32Array(Math.ceil(1.25 * ids))
}

/** Documents of one key. */
class GrowingBlock {
  private ids: Int32Array<ArrayBuffer>
  private used = 0
  private readonly lengths: number[] = []
  private readonly sequences: number[] = []

  /** In memory that is replaced where it is too little. */
  constructor(ids: Int32Array<ArrayBuffer>) {
    this.ids = ids
  }

  add(sequence: Int32Array): void {
    this.append(sequence)
    this.lengths.push(sequence.length)
  }

  /** One of each sequence. */
  addDocuments(ids: Int32Array, lengths: Int32Array): void {
    this.append(ids)
    for (const length of lengths) {
      this.lengths.push(length)
      this.sequences.push(1)
    }
  }

  private append(ids: Int32Array): void {
    const end = this.used + ids.length
    if (end > this.ids.length) {
      const grown = new Int32Array(2 * end)
      grown.set(this.ids.subarray(0, this.used))
      this.ids = grown
    }
    this.ids.set(ids, this.used)
    this.used = end
  }

  endDocument(sequences: number): void {
    this.sequences.push(sequences)
  }

  take(): EncodedBlock['datasets'][number] {
    return {
      ids: this.ids.subarray(0, this.used),
      lengths: new Int32Array(this.lengths),
      sequences: new Int32Array(this.sequences),
    }
  }
}
