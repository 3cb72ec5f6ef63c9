import { handlerNamed } from '../data/handlers/registry.ts'
import { defineStep } from '../flow/step.ts'
import { PreprocessInput } from './preprocess-input.ts'
import { checkEncoding, PreprocessedDataset, summarizeDataset, writeDataset } from './preprocessed-dataset.ts'
import { checkPreprocessing, preprocessJob } from './toolchain/preprocess-job.ts'

/**
 * Tokenises a corpus into Megatron's indexed datasets, byte for byte as the toolchain's `preprocess_data.py` does.
 *
 * Runs in this process, with threads for large input. With `GeneralPretrainHandler` (default) each row's text is a
 * document; the other handlers make ids, masks and labels of instructions. After a kill it goes on where it was saved.
 * With `toolchain` it is a job of that one's script, whose files are checked before they count.
 * @throws InputError for a tokenizer without eos when `appendEod` is set (at plan time) and for a corpus of which no
 * row is kept; FormatError naming file, line and column of a damaged row.
 */
export const preprocess = defineStep({
  name: 'preprocess',
  version: 1,
  input: PreprocessInput,
  output: PreprocessedDataset,
  omitFromKey: ['workers'],
  check: async ({ handler = 'GeneralPretrainHandler', promptType, mapKeys, compat, ...known }) => {
    const options = { promptType, mapKeys: mapKeys as PreprocessInput['mapKeys'], compat }
    const facts = await checkEncoding(known, handlerNamed(handler, options))
    return [...facts, ...checkPreprocessing({ ...known, ...options, handler })]
  },
  summarize: summarizeDataset,
  foretell: ({ handler = 'GeneralPretrainHandler', promptType }) => ({
    instruction: handlerNamed(handler, { promptType }).infix === '_packed',
  }),
}).runOrJobWith('toolchain', writeDataset, preprocessJob)
