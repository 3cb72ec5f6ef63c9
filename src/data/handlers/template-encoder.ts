import { InputError } from '../../errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { type PromptTemplate, type PromptType, promptTemplates, type Slot } from './prompt-templates.ts'
import { concatIds, createTemplateTokenizer, type TemplateTokenizer } from './template-tokenizer.ts'
import { readFunctionCall, toolText } from './tool-text.ts'

export interface Message {
  readonly role: 'user' | 'assistant' | 'observation' | 'function'
  readonly content: string
}

/** What is encoded: messages of the two sides in turn, the user's side first, and an even number of them. */
export interface Exchange {
  readonly messages: readonly Message[]
  /** Empty for the template's own. */
  readonly system: string
  /** JSON text or what was read from it; an empty text for none. */
  readonly tools: unknown
}

/** Ids of what the user's side said, with all that stands before it, and of the answer. */
export interface Turn {
  readonly source: Int32Array
  readonly target: Int32Array
}

export interface TemplateEncoder {
  readonly tokenizer: TemplateTokenizer
  readonly template: PromptTemplate
  /** The exchange, turn by turn; or what of it cannot be written: the tools, or a message that is no function call. */
  encode(exchange: Exchange): readonly Turn[] | { readonly unreadable: 'tools' | 'function call' }
}

/**
 * Writes exchanges in a prompt template: each slot is tokenised on its own.
 *
 * Source: ModelLink, templates.py, `_encode`. @throws InputError when the tokenizer lacks a token that the template
 * names.
 */
export function createTemplateEncoder(
  tokenizer: Tokenizer,
  { promptType, exact }: { readonly promptType: PromptType; readonly exact: boolean },
): TemplateEncoder {
  const template: PromptTemplate = promptTemplates[promptType]
  const adapted = createTemplateTokenizer(tokenizer, template)
  // An empty text has no ids, whatever the tokenizer puts before texts.
  const encodePiece = (text: string) => (text === '' ? [] : adapted.encode(text))
  const idsOf = (slots: readonly Slot[], fill: (text: string) => string): Int32Array =>
    concatIds(
      slots.map(slot => {
        if (typeof slot === 'string') return encodePiece(fill(slot))
        if ('token' in slot) return [idOfToken(adapted, slot.token, promptType)]
        const id = slot.special === 'bos' ? adapted.bosId : adapted.eosId
        return id === undefined ? [] : [id]
      }),
    )
  const asIs = (text: string) => text
  const content = (value: string) => (text: string) => text.replace('{{content}}', () => value)
  const userContent = (value: string, turn: number) => (text: string) => {
    const filled = exact ? content(value)(text) : text.replace('{{idx}}', `${turn}`)
    // ModelLink looks for the turn's place in what the user said, too; but not in llama2's template.
    return exact ? (template.systemInUser ? filled : filled.replace('{{idx}}', `${turn}`)) : content(value)(filled)
  }

  return {
    tokenizer: adapted,
    template,
    encode({ messages, system: given, tools }) {
      const hasTools = tools !== '' && tools !== null && tools !== undefined
      const toolPart = hasTools ? toolText(tools, { format: template.tools, exact }) : ''
      if (toolPart === undefined && !exact) return { unreadable: 'tools' }
      const system = given || template.defaultSystem
      const systemText = system || hasTools ? system + (toolPart ?? '') : undefined
      const inUser = template.systemInUser && systemText !== undefined
      const preamble = inUser ? template.system.map(slot => content(systemText)(String(slot))).join('') : ''

      const encoded: Int32Array[] = []
      for (const [i, { role, content: said }] of messages.entries()) {
        const parts: Int32Array[] = []
        if (i === 0) parts.push(idsOf(template.prefix, asIs))
        else if (i % 2 === 0) parts.push(idsOf(template.separator, asIs))
        if (i === 0 && systemText !== undefined && !inUser) parts.push(idsOf(template.system, content(systemText)))
        // ModelLink loses llama2's system text when the first message is an observation.
        const before = i === 0 && (role === 'user' || !exact) ? preamble : ''
        if (role === 'function') {
          const call = readFunctionCall(said) ?? (exact ? { name: '', args: '' } : undefined)
          if (!call) return { unreadable: 'function call' }
          const fill = (text: string) =>
            text.replaceAll('{{name}}', () => call.name).replaceAll('{{arguments}}', () => call.args)
          parts.push(idsOf(template.function, fill))
        } else if (role === 'user') parts.push(idsOf(template.user, userContent(before + said, i >> 1)))
        else parts.push(idsOf(template[role], content(before + said)))
        encoded.push(concatIds(parts))
      }
      return Array.from({ length: encoded.length >> 1 }, (_, turn) => ({
        source: encoded[2 * turn] ?? new Int32Array(),
        target: encoded[2 * turn + 1] ?? new Int32Array(),
      }))
    },
  }
}

function idOfToken(tokenizer: TemplateTokenizer, token: string, promptType: PromptType): number {
  const id = tokenizer.idOf(token)
  if (id !== undefined) return id
  throw new InputError(`The tokenizer has no token ${token}, which the prompt template ${promptType} is made of.`, {
    field: 'promptType',
    hint: 'Is it the template of this model?',
  })
}
