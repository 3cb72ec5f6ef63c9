import { z } from 'zod'
import { promptTypes } from '../data/handlers/prompt-templates.ts'
import { handlerNames } from '../data/handlers/registry.ts'
import { Corpus, HfModel } from './artifacts.ts'
import { toolchainFields } from './toolchain/toolchain-fields.ts'

const size = z.number().int().positive()

/** What `preprocess` and steps made by `preprocessWith` have in common. */
export const preprocessFields = {
  /** Text to train on; or several corpora, one after another, or blended by their shares of the tokens. */
  corpus: z.union([
    Corpus,
    z.array(z.strictObject({ corpus: Corpus, weight: z.number().positive().optional() })).min(1),
  ]),
  /** The folder with the tokenizer's files. */
  tokenizer: HfModel,
  /** Rows of this many tokens or more are dropped, as the toolchain drops them; default: none. */
  seqLength: size.optional(),
  /** `truncate` or `split` sequences longer than `seqLength` instead of dropping them. */
  overflow: z.enum(['drop', 'truncate', 'split']).optional(),
  /** Put instruction samples together to samples of exactly `seqLength` tokens; default false. */
  pack: z.boolean().optional(),
  /** End each row with the tokenizer's eos; default false. */
  appendEod: z.boolean().default(false),
  /** Documents to set aside as a dataset of their own: a share below 1, or their number; default none. */
  validation: z.number().positive().optional(),
  /** Chooses what is set aside; default 1234. */
  seed: z.number().int().optional(),
  /** What to do with a row that cannot be read: `fail` (default), or `skip` and count it. */
  onBadRow: z.enum(['fail', 'skip']).optional(),
  /** Threads; results do not depend on it. Default: up to 4 above 8 MB of input, otherwise 1. */
  workers: size.optional(),
}

export type PreprocessFields = z.output<z.ZodObject<typeof preprocessFields>>

export const PreprocessInput = z.object({
  ...preprocessFields,
  handler: z.enum(handlerNames).default('GeneralPretrainHandler'),
  /** Columns to tokenise, each into a dataset of its own; default: the corpus' `textKey`. */
  jsonKeys: z.array(z.string().min(1)).min(1).optional(),
  /** Prompt template of the Alpaca and ShareGPT style handlers. */
  promptType: z.enum(promptTypes as [(typeof promptTypes)[number]]).optional(),
  /** Other names for the handler's columns: `{ instruction: 'question' }`. */
  mapKeys: z.record(z.string(), z.union([z.string(), z.record(z.string(), z.string())])).optional(),
  /** `exact`: also do what ModelLink does where that is hardly what was meant. */
  compat: z.literal('exact').optional(),
  ...toolchainFields,
})

export type PreprocessInput = z.output<typeof PreprocessInput>
