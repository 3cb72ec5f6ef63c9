import { optionalText } from './conversation.ts'
import { type Handler, withEnd } from './handler.ts'

/**
 * Instruction, input and output as one text to pretrain on, in the dataset `text`.
 *
 * Where the input is empty, the text has `None` in its place. Source: ModelLink, data_handler.py,
 * AlpacaPretrainHandler.
 */
export const alpacaPretrainHandler: Handler = {
  name: 'AlpacaPretrainHandler',
  columns: () => ['instruction', 'input', 'output'],
  keys: () => ['text'],
  infix: '',
  encode(row, { tokenizer, eod }) {
    const input = optionalText(row, 'input')
    const text =
      'A chat between a curious user and an artificial intelligence assistant. ' +
      "The assistant gives helpful, detailed, and polite answers to the user's questions." +
      'USER: Below is an instruction that describes a task. Write a response that appropriately completes the ' +
      `request.\n\n### Instruction:\n${row.text('instruction')}\n\n###${input === '' ? 'None' : ` Input:\n${input}`}` +
      `\n\n### Response: ASSISTANT: ${row.text('output')}`
    const ids = tokenizer.encode(text)
    return [[eod === undefined ? ids : withEnd(ids, eod)]]
  },
}
