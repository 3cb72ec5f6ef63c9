import { InputError } from '../../errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { readAlpacaStyle } from './alpaca-style.ts'
import type { Conversation, ConversationReader } from './conversation.ts'
import { ignoredLabel } from './general-instruction.ts'
import { dropped, type Encoded, type Handler, type HandlerOptions, type Row } from './handler.ts'
import { promptTypes } from './prompt-templates.ts'
import { readSharegptStyle } from './sharegpt-style.ts'
import { createTemplateEncoder, type Message, type TemplateEncoder, type Turn } from './template-encoder.ts'
import { concatIds } from './template-tokenizer.ts'

/** Instruction, input and output in a prompt template; the loss is on the output. */
export const alpacaStyleInstructionHandler = (options: HandlerOptions): Handler =>
  instructionHandler('AlpacaStyleInstructionHandler', options, readAlpacaStyle(options, { isPairwise: false }))

/** Conversations in a prompt template; the loss is on all answers. */
export const sharegptStyleInstructionHandler = (options: HandlerOptions): Handler =>
  instructionHandler('SharegptStyleInstructionHandler', options, readSharegptStyle(options, { isPairwise: false }))

/** An instruction with a chosen and a rejected answer, for reward models and DPO. */
export const alpacaStylePairwiseHandler = (options: HandlerOptions): Handler =>
  pairwiseHandler('AlpacaStylePairwiseHandler', options, readAlpacaStyle(options, { isPairwise: true }))

/** A conversation with a chosen and a rejected last answer. */
export const sharegptStylePairwiseHandler = (options: HandlerOptions): Handler =>
  pairwiseHandler('SharegptStylePairwiseHandler', options, readSharegptStyle(options, { isPairwise: true }))

/** Source: ModelLink, data_handler.py, `LlamaFactoryInstructionHandler`. */
function instructionHandler(name: string, options: HandlerOptions, reader: ConversationReader): Handler {
  const encoderOf = createEncoders(name, options)
  return {
    name,
    columns: () => reader.columns,
    keys: () => ['input_ids', 'attention_mask', 'labels'],
    infix: '_packed',
    labels: 'labels',
    tokenizerFacts: tokenizer => encoderOf(tokenizer).tokenizer,
    encode(row, { tokenizer, eod }) {
      const said = reader.read(row)
      if (typeof said === 'string') return dropped[said]
      const encoder = encoderOf(tokenizer)
      const isValid = said.prompt.length % 2 === 1 && said.responses.length === 1
      if (!isValid && options.compat !== 'exact') return dropped['invalid turns']
      // ModelLink writes an exchange of nothing in the place of an invalid one.
      const messages = isValid ? [...said.prompt, ...said.responses] : emptyExchange
      const turns = encodeTurns(row, { encoder, reader, said, messages })
      const { efficientEos } = encoder.template
      const { eosId } = encoder.tokenizer
      const ends = [...(efficientEos ? [eosId] : []), ...(eod === undefined ? [] : [eosId])]
      const ids = concatIds([...turns.flatMap(({ source, target }) => [source, target]), ends])
      if (ids.length === 0) return dropped.empty
      const labels = ids.slice()
      let at = 0
      for (const [i, { source, target }] of turns.entries()) {
        labels.fill(ignoredLabel, at, at + source.length)
        // The end of the turn before has no place of its own: it is trained where the next one begins.
        if (efficientEos && i > 0) labels[at] = eosId
        at += source.length + target.length
      }
      return [[ids], [new Int32Array(ids.length).fill(1)], [labels]]
    },
  }
}

const emptyExchange: readonly Message[] = [
  { role: 'user', content: '' },
  { role: 'assistant', content: '' },
]

/** Source: ModelLink, data_handler.py, `AlpacaStylePairwiseHandler`. It appends no eod. */
function pairwiseHandler(name: string, options: HandlerOptions, reader: ConversationReader): Handler {
  const encoderOf = createEncoders(name, options)
  return {
    name,
    columns: () => reader.columns,
    keys: () => ['chosen_input_ids', 'chosen_labels', 'rejected_input_ids', 'rejected_labels'],
    infix: '_packed',
    labels: 'chosen_labels',
    tokenizerFacts: tokenizer => encoderOf(tokenizer).tokenizer,
    encode(row, { tokenizer }) {
      const said = reader.read(row)
      if (typeof said === 'string') return dropped[said]
      const encoder = encoderOf(tokenizer)
      const encoded = said.responses.flatMap((response): Encoded => {
        const turns = encodeTurns(row, { encoder, reader, said, messages: [...said.prompt, response] })
        const answer = turns.at(-1)?.target ?? new Int32Array()
        const before = turns.flatMap(({ source, target }, i) => (i < turns.length - 1 ? [source, target] : [source]))
        const end = encoder.template.efficientEos ? [encoder.tokenizer.eosId] : []
        const ids = concatIds([...before, answer, end])
        return [[ids], [ids.slice().fill(ignoredLabel, 0, ids.length - answer.length - end.length)]]
      })
      return encoded.some(([ids]) => ids?.length === 0) ? dropped.empty : encoded
    },
  }
}

function encodeTurns(
  row: Row,
  use: {
    readonly encoder: TemplateEncoder
    readonly reader: ConversationReader
    readonly said: Conversation
    readonly messages: readonly Message[]
  },
): readonly Turn[] {
  const { encoder, reader, said, messages } = use
  const turns = encoder.encode({ messages, system: said.system, tools: said.tools })
  if (!('unreadable' in turns)) return turns
  const what = turns.unreadable
  if (what === 'tools') {
    const held = JSON.stringify(said.tools)?.slice(0, 80)
    throw row.error(reader.toolsColumn, 'a JSON list of tools, each with "name" and "parameters.properties",', held)
  }
  const expected = 'function calls that are JSON with "name" and "arguments"'
  const call = messages.find(({ role }) => role === 'function')?.content
  throw row.error(reader.messagesColumn, expected, JSON.stringify(call)?.slice(0, 80))
}

/** An encoder for each tokenizer, made once. @throws InputError when no template is chosen. */
function createEncoders(handler: string, { promptType, compat }: HandlerOptions) {
  if (promptType === undefined || !promptTypes.includes(promptType)) {
    const given = promptType === undefined ? 'needs a promptType' : `knows no promptType ${JSON.stringify(promptType)}`
    throw new InputError(`${handler} ${given}.`, { field: 'promptType', hint: `Known are ${promptTypes.join(', ')}.` })
  }
  const encoders = new WeakMap<Tokenizer, TemplateEncoder>()
  return (tokenizer: Tokenizer): TemplateEncoder => {
    const encoder =
      encoders.get(tokenizer) ?? createTemplateEncoder(tokenizer, { promptType, exact: compat === 'exact' })
    encoders.set(tokenizer, encoder)
    return encoder
  }
}
