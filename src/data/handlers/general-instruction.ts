import { type EncodeContext, type Handler, withEnd } from './handler.ts'

/** Source: ModelLink, prompter.py, `AlpacaTemplate`; a row without input leaves an empty line. */
const preamble =
  '\nBelow is an instruction that describes a task, paired with an input that provides further context. ' +
  'Write a response that appropriately completes the request. ' +
  'Please note that you need to think through your response logically and step by step.\n'

const responseMark = '### Response:'

/** What labels hold where the model is not trained. */
export const ignoredLabel = -100

/** What one side said. */
export interface InstructionMessage {
  readonly from: 'user' | 'assistant'
  readonly content: string
}

/** What the handlers with ModelLink's one template have in common. */
export const instructionDatasets = {
  keys: () => ['input_ids', 'attention_mask', 'labels'],
  infix: '_packed',
  labels: 'labels',
} as const satisfies Partial<Handler>

/**
 * Instruction, input and output under ModelLink's one template; the loss is on the response and the end token.
 *
 * Three datasets of equally long sequences. Labels are not shifted. Source: ModelLink, data_handler.py,
 * GeneralInstructionHandler.
 */
export const generalInstructionHandler: Handler = {
  ...instructionDatasets,
  name: 'GeneralInstructionHandler',
  columns: () => ['instruction', 'input', 'output'],
  encode(row, context) {
    const task = { from: 'user', content: `${row.text('instruction')}\n${row.text('input')}` } as const
    return encodeInstruction([task, { from: 'assistant', content: row.text('output') }], context)
  },
}

/** Ids, mask and labels of one sequence that holds the messages; the loss is on the last answer and the end token. */
export function encodeInstruction(
  messages: readonly InstructionMessage[],
  { tokenizer, eod }: Pick<EncodeContext, 'tokenizer' | 'eod'>,
): [[Int32Array], [Int32Array], [Int32Array]] {
  const marks = { user: '### Instruction:', assistant: responseMark }
  const text = preamble + messages.map(({ from, content }) => `${marks[from]}\n${content}\n`).join('')
  const encoded = tokenizer.encode(text)
  const ids = eod === undefined ? encoded : withEnd(encoded, eod)
  // The prompt ends at the last mark, which may stand in the output. It is encoded anew and its ids are counted:
  // merges across the boundary make any other count wrong.
  const prompt = `${text.slice(0, text.lastIndexOf(responseMark))}${responseMark}\n`
  const labels = ids.slice().fill(ignoredLabel, 0, tokenizer.encode(prompt).length)
  return [[ids], [new Int32Array(ids.length).fill(1)], [labels]]
}
