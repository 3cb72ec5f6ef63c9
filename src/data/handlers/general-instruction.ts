import { type Handler, withEnd } from './handler.ts'

/** Source: ModelLink, prompter.py, `AlpacaTemplate`; a row without input leaves an empty line. */
const preamble =
  '\nBelow is an instruction that describes a task, paired with an input that provides further context. ' +
  'Write a response that appropriately completes the request. ' +
  'Please note that you need to think through your response logically and step by step.\n'

const responseMark = '### Response:'

/** What labels hold where the model is not trained. */
export const ignoredLabel = -100

/**
 * Instruction, input and output under ModelLink's one template; the loss is on the response and the end token.
 *
 * Three datasets of equally long sequences. Labels are not shifted. Source: ModelLink, data_handler.py,
 * GeneralInstructionHandler.
 */
export const generalInstructionHandler: Handler = {
  name: 'GeneralInstructionHandler',
  columns: () => ['instruction', 'input', 'output'],
  keys: () => ['input_ids', 'attention_mask', 'labels'],
  infix: '_packed',
  labels: 'labels',
  encode(row, { tokenizer, eod }) {
    const task = `### Instruction:\n${row.text('instruction')}\n${row.text('input')}\n`
    const text = `${preamble}${task}${responseMark}\n${row.text('output')}\n`
    const encoded = tokenizer.encode(text)
    const ids = eod === undefined ? encoded : withEnd(encoded, eod)
    // The prompt ends at the last mark, which may stand in the output. It is encoded anew and its ids are counted:
    // merges across the boundary make any other count wrong.
    const prompt = `${text.slice(0, text.lastIndexOf(responseMark))}${responseMark}\n`
    const labels = ids.slice().fill(ignoredLabel, 0, tokenizer.encode(prompt).length)
    return [[ids], [new Int32Array(ids.length).fill(1)], [labels]]
  },
}
