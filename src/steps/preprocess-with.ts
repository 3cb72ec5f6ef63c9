import { z } from 'zod'
import { type Segment, segmentsHandler } from '../data/handlers/segments.ts'
import { defineStep } from '../flow/step.ts'
import { preprocessFields } from './preprocess-input.ts'
import { checkEncoding, PreprocessedDataset, summarizeDataset, writeDataset } from './preprocessed-dataset.ts'

export interface PreprocessWithSpec<R extends z.ZodObject> {
  /** Name of the step, and part of its calls' keys. */
  readonly name: string
  /** Raise it whenever `segments` means something else: recorded datasets of other versions are not used. */
  readonly version: number
  /** The columns that are read; rows in which they hold something else are bad rows. */
  readonly row: R
  /** The pieces of a row's sequence, in order; none leaves the row out. Pure: rows are encoded in any order. */
  segments(row: z.output<R>): readonly Segment[]
}

/**
 * A step like `preprocess` for rows of a form of one's own: `segments` says what the model reads and what it learns.
 *
 * Gives instruction data: ids, masks, and labels that are -100 where `train` is false. Texts get no bos or eos of their
 * own, but special tokens that are written in them are found; with `appendEod` the end is trained. The function runs in
 * this process, on one thread.
 */
export function preprocessWith<R extends z.ZodObject>(spec: PreprocessWithSpec<R>) {
  const { name, version } = spec
  const handler = segmentsHandler(spec)
  return defineStep({
    ...{ name, version, input: z.object(preprocessFields), output: PreprocessedDataset },
    omitFromKey: ['workers'],
    check: known => checkEncoding(known, handler),
    summarize: summarizeDataset,
  }).run((input, context) => writeDataset({ ...input, handler }, context))
}
