import type { z } from 'zod'
import { InputError } from '../../errors.ts'
import { ignoredLabel, instructionDatasets } from './general-instruction.ts'
import { dropped, type Handler } from './handler.ts'
import { concatIds } from './template-tokenizer.ts'

/** A piece of a sequence: text, which is tokenised on its own, or ids; the model learns to write it where `train` is. */
export type Segment =
  | { readonly text: string; readonly train: boolean }
  | { readonly ids: readonly number[]; readonly train: boolean }

export interface SegmentsHandlerOptions<R extends z.ZodObject> {
  /** Name for messages. */
  readonly name: string
  /** The columns that are read, and what they hold. */
  readonly row: R
  segments(row: z.output<R>): readonly Segment[]
}

/**
 * A handler of the user's own: `segments` gives the pieces of a row's sequence in order, or none to leave the row out.
 *
 * The datasets are those of instruction data: labels are -100 where `train` is false. Texts get no bos or eos of their
 * own, but special tokens that are written in them are found: `{ text: '<s>', train: false }`. With `appendEod` the end
 * is trained. The function must be pure, for rows are encoded in any order.
 */
export function segmentsHandler<R extends z.ZodObject>(options: SegmentsHandlerOptions<R>): Handler {
  const { name, row: schema, segments } = options
  const columns = Object.keys(schema.shape)
  return {
    ...instructionDatasets,
    name,
    columns: () => columns,
    encode(row, { tokenizer, eod }) {
      const parsed = schema.safeParse(Object.fromEntries(columns.map(column => [column, row.value(column)])))
      if (!parsed.success) {
        const [issue] = parsed.error.issues
        throw row.error(String(issue?.path[0]), `what its schema takes (${issue?.message})`)
      }
      const parts = segments(parsed.data).map(segment => ({
        train: segment.train,
        ids:
          'text' in segment ? tokenizer.encode(segment.text, { addSpecialTokens: false }) : checkIds(segment.ids, name),
      }))
      if (parts.every(({ ids }) => ids.length === 0)) return dropped.empty
      if (eod !== undefined) parts.push({ train: true, ids: Int32Array.of(eod) })
      const ids = concatIds(parts.map(part => part.ids))
      const labels = ids.slice()
      let at = 0
      for (const part of parts) {
        if (!part.train) labels.fill(ignoredLabel, at, at + part.ids.length)
        at += part.ids.length
      }
      return [[ids], [new Int32Array(ids.length).fill(1)], [labels]]
    },
  }
}

function checkIds(ids: readonly number[], name: string): Int32Array {
  const wrong = ids.find(id => !(Number.isInteger(id) && id >= 0 && id < 2 ** 31))
  if (wrong === undefined) return Int32Array.from(ids)
  throw new InputError(`Handler ${JSON.stringify(name)} gave ${wrong} as a token id.`, { field: 'handler' })
}
