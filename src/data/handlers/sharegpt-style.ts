import { InputError } from '../../errors.ts'
import { nameColumns } from './column-names.ts'
import { type ConversationReader, optionalText } from './conversation.ts'
import type { HandlerOptions, MapKeys, Row } from './handler.ts'
import type { Message } from './template-encoder.ts'

/** ModelLink's names; columns that are off unless mapped are empty. Source: parser.py, `InstructionDatasetAttr`. */
const columns = { messages: 'conversations', system: '', tools: '', chosen: 'chosen', rejected: 'rejected' } as const

const tags = {
  role_tag: 'from',
  content_tag: 'value',
  user_tag: 'human',
  assistant_tag: 'gpt',
  observation_tag: 'observation',
  function_tag: 'function_call',
  system_tag: 'system',
} as const

type Tags = Readonly<Record<keyof typeof tags, string>>

/**
 * Rows with a list of messages of alternating sides, and perhaps a system text first.
 *
 * Source: ModelLink, utils.py, `convert_sharegpt_to_intermediate`.
 */
export function readSharegptStyle(
  { mapKeys = {} }: HandlerOptions,
  { isPairwise }: { readonly isPairwise: boolean },
): ConversationReader {
  const { tags: named, ...others } = mapKeys
  const names = nameColumns(others, columns)
  const tag = nameTags(named)
  const answers = isPairwise ? [names.chosen, names.rejected] : []
  return {
    columns: [names.messages, names.system, names.tools, ...answers].filter(column => column !== ''),
    toolsColumn: names.tools,
    messagesColumn: names.messages,
    read(row) {
      const list = row.value(names.messages)
      if (!Array.isArray(list)) throw row.error(names.messages, 'a list of messages')
      const all = list.map(message => readMessage(row, { message, column: names.messages, tag }))
      const [first] = all
      const hasSystem = first?.role === 'system'
      const messages = (hasSystem ? all.slice(1) : all) as Message[]
      if (messages.length === 0) return 'empty'
      const responses = isPairwise
        ? ([names.chosen, names.rejected].map(column =>
            readMessage(row, { message: row.value(column), column, tag }),
          ) as Message[])
        : messages.slice(-1)
      const prompt = isPairwise ? messages : messages.slice(0, -1)
      const isOrdered =
        prompt.length % 2 === 1 &&
        prompt.every(({ role }, i) => isAnswer(role) === (i % 2 === 1) && isKnown(role)) &&
        responses.every(({ role }) => isAnswer(role))
      if (!isOrdered) return 'invalid turns'
      return {
        prompt,
        responses,
        system: hasSystem ? first.content : optionalText(row, names.system),
        tools: names.tools === '' ? '' : row.value(names.tools),
      }
    },
  }
}

const isAnswer = (role: string) => role === 'assistant' || role === 'function'
const isKnown = (role: string) => role !== 'system'

function readMessage(
  row: Row,
  { message, column, tag }: { readonly message: unknown; readonly column: string; readonly tag: Tags },
): { readonly role: Message['role'] | 'system'; readonly content: string } {
  const record = (typeof message === 'object' && message !== null ? message : {}) as Record<string, unknown>
  const content = record[tag.content_tag]
  const roles = new Map<unknown, Message['role'] | 'system'>([
    [tag.user_tag, 'user'],
    [tag.assistant_tag, 'assistant'],
    [tag.observation_tag, 'observation'],
    [tag.function_tag, 'function'],
    [tag.system_tag, 'system'],
  ])
  const role = roles.get(record[tag.role_tag])
  if (role !== undefined && typeof content === 'string') return { role, content }
  const known = [...roles.keys()].join(', ')
  const expected = `messages with ${JSON.stringify(tag.role_tag)} (${known}) and ${JSON.stringify(tag.content_tag)}`
  throw row.error(column, expected, JSON.stringify(message)?.slice(0, 80))
}

/** Tags that are not named keep ModelLink's names. (There, naming one takes the names of all others away.) */
function nameTags(named: MapKeys[string] | undefined): Tags {
  if (named === undefined) return tags
  if (typeof named === 'object') return nameColumns(named, tags)
  throw new InputError(`mapKeys.tags is ${JSON.stringify(named)}; it must be a record of tags.`, {
    field: 'mapKeys.tags',
    hint: `Known are ${Object.keys(tags).join(', ')}.`,
  })
}
