import { join } from 'node:path'
import { z } from 'zod'
import { handlerNames } from '../data/handlers/registry.ts'
import { preprocessCorpus } from '../data/preprocess.ts'
import { summarize } from '../data/preprocess-report.ts'
import { loadTokenizer } from '../data/tokenizer/tokenizer.ts'
import { artifactFiles } from '../engine/artifact-files.ts'
import { InputError } from '../errors.ts'
import { defineStep } from '../flow/step.ts'
import { Corpus, HfModel, MegatronDataset } from './artifacts.ts'

/**
 * Tokenises a corpus into Megatron's indexed datasets, byte for byte as the toolchain's `preprocess_data.py` does.
 *
 * Runs in this process. With `GeneralPretrainHandler` (default) each row's text is a document; with
 * `GeneralInstructionHandler` rows of instruction, input and output become ids, masks and labels.
 * @throws InputError for a tokenizer without eos when `appendEod` is set (at plan time) and for a corpus of which no
 * row is kept; FormatError naming file, line and column of a damaged row.
 */
export const preprocess = defineStep({
  name: 'preprocess',
  version: 1,
  input: z.object({
    corpus: Corpus,
    /** The folder with `tokenizer.json`. */
    tokenizer: HfModel,
    handler: z.enum(handlerNames).default('GeneralPretrainHandler'),
    /** Rows of this many tokens or more are dropped, as the toolchain drops them; default: none. */
    seqLength: z.number().int().positive().optional(),
    /** End each row with the tokenizer's eos; default false. */
    appendEod: z.boolean().default(false),
  }),
  output: MegatronDataset,
  check: async ({ tokenizer, handler, appendEod }) => {
    if (!tokenizer?.path) return []
    const { vocabSize, eosId } = await loadTokenizer(tokenizer.path)
    if (appendEod && eosId === undefined)
      throw new InputError(`the tokenizer in ${tokenizer.path} has no eos token to append.`, {
        field: 'appendEod',
        hint: 'Name one as "eos_token" in its tokenizer_config.json, or leave appendEod out.',
      })
    return [`${handler ?? 'GeneralPretrainHandler'}, vocabulary ${vocabSize.toLocaleString('en')}`]
  },
}).run(async ({ corpus, tokenizer, handler, seqLength, appendEod }, { workDir, signal, log, progress }) => {
  const instruction = handler === 'GeneralInstructionHandler'
  const result = await preprocessCorpus({
    files: (await artifactFiles(corpus.path)).map(file => file.path),
    ...{ handler, jsonKeys: [corpus.textKey], tokenizerDir: tokenizer.path, seqLength, appendEod, signal },
    outputPrefix: join(workDir, 'data'),
    onProgress: progress,
  })
  for (const line of summarize(result.report)) log(line)
  return {
    ...{ kind: 'megatron-dataset', path: result.dataPath, instruction },
    ...{ samples: result.sequences, tokens: result.tokens, vocabSize: result.vocabSize },
  }
})
