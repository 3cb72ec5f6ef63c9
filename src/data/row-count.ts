/** What became of some rows. Plain numbers, so that counts of parts add up to that of the whole. */
export interface RowCount {
  readonly rows: number
  /** Rows without any text. */
  readonly empty: number
  /** Rows whose messages are not in an order that can be trained on. */
  readonly invalidTurns: number
  /** Rows left out because a column that the handler needs is missing or holds something else. */
  readonly wrongColumns: number
  /** Rows left out because they could not be read: no JSON, another number of fields, a damaged part of a file. */
  readonly bad: number
  /** Sequences left out because they have `seqLength` tokens or more. */
  readonly overLength: number
  /** Sequences that were cut to fit, or into several. */
  readonly cut: number
  /** Pieces of cut sequences left out because no token of theirs is trained on. */
  readonly untrained: number
  /** Sequences kept, before packing. */
  readonly kept: number
  /** Tokens with a label other than -100; all of them where there are no labels. */
  readonly trainTokens: number
  /** Tokens that stand for what the vocabulary does not have. */
  readonly unknownTokens: number
  /** Sequences kept, by length: entry `i` counts lengths from 2^i (0 from 0) to 2^(i+1) - 1. */
  readonly lengths: readonly number[]
  /** What was wrong with the first rows of bad or wrong columns, at most `namedBadRows`. */
  readonly badRows: readonly string[]
}

/** Bad rows that are named, not only counted. */
export const namedBadRows = 5

/** A count while it grows. */
export type GrowingCount = { -readonly [K in keyof RowCount]: RowCount[K] extends number ? number : RowCount[K] } & {
  lengths: number[]
  badRows: string[]
}

export function createCount(): GrowingCount {
  return {
    ...{
      rows: 0,
      empty: 0,
      invalidTurns: 0,
      wrongColumns: 0,
      bad: 0,
      overLength: 0,
      cut: 0,
      untrained: 0,
      kept: 0,
      trainTokens: 0,
      unknownTokens: 0,
    },
    ...{ lengths: [], badRows: [] },
  }
}

/** Both together. */
export function addCounts(a: RowCount, b: RowCount): RowCount {
  return {
    rows: a.rows + b.rows,
    empty: a.empty + b.empty,
    invalidTurns: a.invalidTurns + b.invalidTurns,
    wrongColumns: a.wrongColumns + b.wrongColumns,
    bad: a.bad + b.bad,
    overLength: a.overLength + b.overLength,
    cut: a.cut + b.cut,
    untrained: a.untrained + b.untrained,
    kept: a.kept + b.kept,
    trainTokens: a.trainTokens + b.trainTokens,
    unknownTokens: a.unknownTokens + b.unknownTokens,
    lengths: Array.from(
      { length: Math.max(a.lengths.length, b.lengths.length) },
      (_, i) => (a.lengths[i] ?? 0) + (b.lengths[i] ?? 0),
    ),
    badRows: [...a.badRows, ...b.badRows].slice(0, namedBadRows),
  }
}
