import { encodeInstruction, instructionDatasets } from './general-instruction.ts'
import type { Handler } from './handler.ts'
import { strip } from './strip.ts'

/**
 * A problem as far as its first code block, answered by code and explanation.
 *
 * Source: ModelLink, data_handler.py, LeetcodePythonInstructionHandler.
 */
export const leetcodePythonHandler: Handler = {
  ...instructionDatasets,
  name: 'LeetcodePythonInstructionHandler',
  columns: () => ['code_with_problem', 'code_only', 'explanation_only'],
  encode(row, context) {
    const [problem = ''] = row.text('code_with_problem').split('```', 1)
    const answer = `${row.text('code_only')}\n${row.text('explanation_only')}`
    return encodeInstruction(
      [
        { from: 'user', content: strip(problem) },
        { from: 'assistant', content: answer },
      ],
      context,
    )
  },
}
