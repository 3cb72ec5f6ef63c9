import type { Tokenizer } from '../tokenizer/tokenizer.ts'

/** One row of the corpus. */
export interface Row {
  /** The text in a column. @throws FormatError with file, line and the row's columns when it is missing or no text. */
  text(column: string): string
}

/** What rows are encoded with. */
export interface EncodeContext {
  readonly tokenizer: Tokenizer
  /** Columns to tokenise, for handlers that leave the choice to the caller. */
  readonly jsonKeys: readonly string[]
  /** Id to put at the end of each document; absent when none is wanted. */
  readonly eod?: number | undefined
}

/**
 * One of ModelLink's handlers: how rows become sequences of token ids.
 *
 * A new one is a record like this in a file of its own, and a line in `registry.ts`.
 */
export interface Handler {
  /** As ModelLink's `--handler-name` has it. */
  readonly name: string
  /** Columns that it reads. */
  columns(jsonKeys: readonly string[]): readonly string[]
  /** Datasets that it writes, by the key in their names. */
  keys(jsonKeys: readonly string[]): readonly string[]
  /** What comes between the output prefix and the key; instruction data is called packed, though nothing is packed. */
  readonly infix: '' | '_packed'
  /** Key whose values are ids or -100, where the model is to be trained on some tokens only. */
  readonly labels?: string
  /** The row's sequences, for each key in the order of `keys`; no sequences for a key: the row leaves no document there. */
  encode(row: Row, context: EncodeContext): readonly (readonly Int32Array[])[]
}

/** `ids` with one more at the end. */
export function withEnd(ids: Int32Array, id: number): Int32Array {
  const extended = new Int32Array(ids.length + 1)
  extended.set(ids)
  extended[ids.length] = id
  return extended
}
