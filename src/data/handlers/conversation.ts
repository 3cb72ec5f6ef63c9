import type { DropReason, Row } from './handler.ts'
import type { Message } from './template-encoder.ts'

/** What a row of instruction or preference data says, whatever the columns. */
export interface Conversation {
  /** Messages before the answer, from the user's side at both ends. */
  readonly prompt: readonly Message[]
  /** One answer; of preference data the chosen and the rejected one. */
  readonly responses: readonly Message[]
  readonly system: string
  /** JSON text or what was read from it; an empty text for none. */
  readonly tools: unknown
}

/** How the rows of one style are read. */
export interface ConversationReader {
  readonly columns: readonly string[]
  /** Columns that hold tools and messages, for error messages. */
  readonly toolsColumn: string
  readonly messagesColumn: string
  read(row: Row): Conversation | DropReason
}

/** Text of a column that may be missing, null, or not wanted (`column` is empty). */
export function optionalText(row: Row, column: string): string {
  const value = column === '' ? undefined : row.value(column)
  if (value === undefined || value === null) return ''
  return row.text(column)
}
