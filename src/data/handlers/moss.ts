import { InputError } from '../../errors.ts'
import { encodeInstruction, type InstructionMessage, ignoredLabel, instructionDatasets } from './general-instruction.ts'
import { dropped, type Handler, type HandlerOptions, type Row } from './handler.ts'
import { strip } from './strip.ts'
import { concatIds } from './template-tokenizer.ts'

/** Ids that stand before what the user and the model say: Baichuan's, whatever the tokenizer. */
const [userId, assistantId] = [195, 196]

/**
 * A conversation of MOSS as one sequence in Baichuan's form; the loss is on all answers.
 *
 * The place of each user mark is trained to be eos, and one eos ends the sequence with or without `eod`. Source:
 * ModelLink, data_handler.py, MOSSMultiTurnHandler. @throws InputError when the tokenizer has no eos.
 */
export const mossMultiTurnHandler = ({ compat }: HandlerOptions): Handler => ({
  ...instructionDatasets,
  name: 'MOSSMultiTurnHandler',
  columns: () => ['chat'],
  encode(row, { tokenizer }) {
    const { eosId } = tokenizer
    if (eosId === undefined) {
      throw new InputError('MOSSMultiTurnHandler ends conversations with eos, and the tokenizer has none.', {
        field: 'tokenizerDir',
      })
    }
    const turns = readTurns(row)
    if (turns.length === 0 && compat !== 'exact') return dropped.empty
    const [ids, labels]: number[][] = [[], []]
    for (const { user, assistant } of turns) {
      const [asked, answered] = [tokenizer.encode(user), tokenizer.encode(assistant)]
      ids?.push(userId, ...asked, assistantId, ...answered)
      labels?.push(eosId, ...asked.map(() => ignoredLabel), ignoredLabel, ...answered)
    }
    const all = concatIds([ids ?? [], [eosId]])
    return [[all], [new Int32Array(all.length).fill(1)], [concatIds([labels ?? [], [eosId]])]]
  },
})

/**
 * A conversation of MOSS as one sequence for each turn, with all turns before it; the loss is on the last answer.
 *
 * Source: ModelLink, data_handler.py, MOSSInstructionHandler.
 */
export const mossInstructionHandler = ({ compat }: HandlerOptions): Handler => ({
  ...instructionDatasets,
  name: 'MOSSInstructionHandler',
  columns: () => ['chat'],
  encode(row, { tokenizer, eod }) {
    const messages: InstructionMessage[] = []
    // ModelLink never appends the end that it is asked for.
    const context = { tokenizer, eod: compat === 'exact' ? undefined : eod }
    const sequences = readTurns(row).map(({ user, assistant }) => {
      messages.push({ from: 'user', content: user }, { from: 'assistant', content: assistant })
      return encodeInstruction(messages, context)
    })
    return [0, 1, 2].map(key => sequences.map(sequence => sequence[key]?.[0] ?? new Int32Array()))
  },
})

function readTurns(row: Row): readonly { readonly user: string; readonly assistant: string }[] {
  const chat = row.value('chat')
  if (typeof chat !== 'object' || chat === null || Array.isArray(chat)) throw row.error('chat', 'a record of turns')
  // Containers that store columns apart have a null for turns that only other rows have.
  const turns = Object.values(chat).filter(turn => turn !== null && turn !== undefined)
  return turns.map((turn: { readonly Human?: unknown; readonly MOSS?: unknown }) => {
    const { Human: human, MOSS: moss } = turn
    if (typeof human !== 'string' || typeof moss !== 'string') {
      throw row.error('chat', 'turns with "Human" and "MOSS"', JSON.stringify(turn).slice(0, 80))
    }
    const user = strip(human.replaceAll('<eoh>', '').replaceAll('<|Human|>: ', ''))
    return { user, assistant: strip(moss.replaceAll('<|MOSS|>:', '').replaceAll('<eom>', '')) }
  })
}
