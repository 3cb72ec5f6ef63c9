import { nameColumns } from './column-names.ts'
import { type ConversationReader, optionalText } from './conversation.ts'
import type { HandlerOptions, Row } from './handler.ts'
import type { Message } from './template-encoder.ts'

/** ModelLink's names; columns that are off unless mapped are empty. Source: parser.py, `InstructionDatasetAttr`. */
const columns = {
  prompt: 'instruction',
  query: 'input',
  response: 'output',
  history: '',
  system: '',
  chosen: 'chosen',
  rejected: 'rejected',
} as const

/**
 * Rows with an instruction, an input and an output (or a chosen and a rejected one).
 *
 * Source: ModelLink, utils.py, `convert_alpaca_to_intermediate`.
 */
export function readAlpacaStyle(
  { mapKeys, compat }: HandlerOptions,
  { isPairwise }: { readonly isPairwise: boolean },
): ConversationReader {
  const names = nameColumns(mapKeys, columns)
  const exact = compat === 'exact'
  const answers = isPairwise ? [names.chosen, names.rejected] : [names.response]
  return {
    columns: [names.prompt, names.query, names.history, names.system, ...answers].filter(column => column !== ''),
    toolsColumn: '',
    messagesColumn: names.prompt,
    read(row) {
      const asked = [names.prompt, names.query].map(column => optionalText(row, column)).filter(text => text !== '')
      // ModelLink never reads the history that it is told of.
      const history = exact || names.history === '' ? [] : readHistory(row, names.history)
      const said = isPairwise ? readPair(row, { ...names, exact }) : readAnswers(row, names.response)
      if (said.length === 0) return 'empty'
      return {
        prompt: [...history, { role: 'user', content: asked.join('\n') }],
        responses: said.map(content => ({ role: 'assistant', content })),
        system: optionalText(row, names.system),
        tools: '',
      }
    },
  }
}

function readHistory(row: Row, column: string): Message[] {
  const history = row.value(column)
  if (history === undefined || history === null) return []
  if (!Array.isArray(history)) throw row.error(column, 'a list of questions and answers')
  return history.flatMap((turn: unknown): Message[] => {
    if (!isTexts(turn) || turn.length !== 2) {
      throw row.error(column, 'pairs of question and answer', JSON.stringify(turn)?.slice(0, 60))
    }
    const [question = '', answer = ''] = turn
    return [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ]
  })
}

function readAnswers(row: Row, column: string): readonly string[] {
  const value = row.value(column)
  if (value === null) return []
  if (typeof value === 'string') return [value]
  if (isTexts(value)) return value
  throw row.error(column, 'text, or a list of texts,')
}

function readPair(
  row: Row,
  { chosen, rejected, exact }: { readonly chosen: string; readonly rejected: string; readonly exact: boolean },
): readonly string[] {
  const value = row.value(chosen)
  if (value === null) return []
  if (typeof value === 'string') return [value, row.text(rejected)]
  // ModelLink takes the second of the rejected ones, which is one too far.
  const [good, bad] = [[value, chosen, 0] as const, [row.value(rejected), rejected, exact ? 1 : 0] as const].map(
    ([list, column, at]) => {
      const text = isTexts(list) ? list[at] : undefined
      if (text === undefined) throw row.error(column, 'text, or a list of texts,')
      return text
    },
  )
  return [good ?? '', bad ?? '']
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}
