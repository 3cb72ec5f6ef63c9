import { encodeInstruction, type InstructionMessage, instructionDatasets } from './general-instruction.ts'
import { dropped, type Handler, type HandlerOptions } from './handler.ts'
import { strip } from './strip.ts'

/**
 * Turns in one text, `Human:` and `Assistant:` before each; the loss is on the last answer, which stands in `output`.
 *
 * What the instruction has of the last answer is replaced. Source: ModelLink, data_handler.py,
 * BelleMultiTurnInstructionHandler.
 */
export const belleMultiTurnHandler = ({ compat }: HandlerOptions): Handler => ({
  ...instructionDatasets,
  name: 'BelleMultiTurnInstructionHandler',
  columns: () => ['instruction', 'output'],
  encode(row, context) {
    const messages: InstructionMessage[] = []
    const pieces = row
      .text('instruction')
      .split('Human:')
      .filter(piece => piece !== '')
    for (const piece of pieces) {
      const [said = '', answer] = piece.split('Assistant:').map(strip)
      // ModelLink takes what nobody has answered for an answer.
      const from = answer === undefined && compat === 'exact' ? 'assistant' : 'user'
      messages.push({ from, content: said })
      if (answer !== undefined) messages.push({ from: 'assistant', content: answer })
    }
    if (compat === 'exact' || messages.at(-1)?.from === 'assistant') messages.pop()
    if (messages.length === 0 && compat !== 'exact') return dropped.empty
    messages.push({ from: 'assistant', content: strip(row.text('output')) })
    return encodeInstruction(messages, context)
  },
})
