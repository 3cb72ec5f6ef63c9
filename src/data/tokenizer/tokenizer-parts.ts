import type { AddedToken } from './added-tokens.ts'
import type { NormalizerSpec } from './normalizer-spec.ts'
import type { Template } from './post-processor.ts'
import type { PreTokenizer } from './pre-tokenizer.ts'
import type { PieceTables } from './section-encoder.ts'
import type { TableMemory } from './table-memory.ts'
import type { TokenIds } from './vocabulary.ts'

/** What a tokenizer is made of, whichever file says it. */
export interface TokenizerParts {
  readonly file: string
  /** Tokens of the model itself, without the added ones. */
  readonly vocab: TokenIds
  /** Tokens that are found in the text. */
  readonly tokens: readonly AddedToken[]
  /** Tokens that are found in the text as the normalizer leaves it. */
  readonly symbols?: readonly AddedToken[]
  /** Tokens that have an id but are not found in text. */
  readonly hidden: readonly AddedToken[]
  /** Whether text is cut at `tokens` as by a tokenizer written in Python: all of them in the text as it came. */
  readonly isSlow: boolean
  readonly normalizer: NormalizerSpec
  readonly preTokenizer: PreTokenizer
  /** Where the tables are made, if the kernel knows them. */
  readonly memory?: TableMemory | undefined
  /** Made when they are asked for: it takes a while. */
  readonly tables: () => PieceTables
  /** As `tokenizer.json` has one. */
  readonly decoder: unknown
  /** Ids around a text, where the tokenizer's class does not say. */
  readonly template: Template
}
