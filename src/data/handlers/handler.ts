import type { FormatError } from '../../errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { PromptType } from './prompt-templates.ts'

/** One row of the corpus. */
export interface Row {
  /** The text in a column. @throws FormatError with file, line and the row's columns when it is missing or no text. */
  text(column: string): string
  /** What a column holds; undefined where the row has no such column. */
  value(column: string): unknown
  /** The error to throw for a column that does not hold what it must; names file, place and what was found. */
  error(column: string, expected: string, found?: string): FormatError
}

/** What rows are encoded with. */
export interface EncodeContext {
  readonly tokenizer: Tokenizer
  /** Columns to tokenise, for handlers that leave the choice to the caller. */
  readonly jsonKeys: readonly string[]
  /** Id to put at the end of each document; absent when none is wanted. */
  readonly eod?: number | undefined
}

/** How a handler is made. Plain data: threads are told a name and this. */
export interface HandlerOptions {
  /** Prompt template; the Alpaca and ShareGPT style handlers need one, the others take none. */
  readonly promptType?: PromptType | undefined
  /** Other names for the columns: `{ instruction: 'question' }`; docs/preprocessing.md lists the names to map. */
  readonly mapKeys?: MapKeys | undefined
  /** `exact`: also do what ModelLink does where that is hardly what was meant (docs/preprocessing.md, "Differences"). */
  readonly compat?: 'exact' | undefined
}

/** Column names of the corpus by the handler's own; ShareGPT's `tags` are a record of names themselves. */
export type MapKeys = Readonly<Record<string, string | Readonly<Record<string, string>>>>

/** The row's sequences, for each key in the order of `keys`; no sequences for a key: the row leaves no document there. */
export type Encoded = readonly (readonly Int32Array[])[]

/** Why a row leaves no document: nothing is in it, or its messages are not in an order that can be trained on. */
export type DropReason = 'empty' | 'invalid turns'

/** What `encode` gives for rows that leave no document; told apart by identity, and empty like any without sequences. */
export const dropped: Readonly<Record<DropReason, Encoded>> = { empty: [], 'invalid turns': [] }

/** Why `encoded` leaves no document; undefined when it leaves one. */
export function dropReasonOf(encoded: Encoded): DropReason | undefined {
  if (encoded === dropped['invalid turns']) return 'invalid turns'
  return encoded.every(sequences => sequences.length === 0) ? 'empty' : undefined
}

/**
 * One of ModelLink's handlers, or a user's own: how rows become sequences of token ids.
 *
 * A new one is a record like this in a file of its own, and a line in `registry.ts`.
 */
export interface Handler {
  /** As ModelLink's `--handler-name` has it. */
  readonly name: string
  /** Columns that it reads; undefined when that cannot be said, and all are wanted. */
  columns(jsonKeys: readonly string[]): readonly string[] | undefined
  /** Datasets that it writes, by the key in their names. */
  keys(jsonKeys: readonly string[]): readonly string[]
  /** What comes between the output prefix and the key; instruction data is called packed, though nothing is packed. */
  readonly infix: '' | '_packed'
  /** Key whose values are ids or -100, where the model is to be trained on some tokens only. */
  readonly labels?: string
  /** What the tokenizer is like with the handler's prompt template, which may add tokens or name another eos. */
  tokenizerFacts?(tokenizer: Tokenizer): Pick<Tokenizer, 'vocabSize' | 'eosId' | 'padId'>
  /** @throws FormatError when a column does not hold what it must. */
  encode(row: Row, context: EncodeContext): Encoded
}

/** `ids` with one more at the end. */
export function withEnd(ids: Int32Array, id: number): Int32Array {
  const extended = new Int32Array(ids.length + 1)
  extended.set(ids)
  extended[ids.length] = id
  return extended
}
