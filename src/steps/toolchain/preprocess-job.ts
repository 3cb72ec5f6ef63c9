import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { preprocessCommand } from '../../ascendspeed/preprocess-arguments.ts'
import { type PreprocessStepInput, preprocessingOf } from '../../ascendspeed/step-inputs.ts'
import type { Toolchain } from '../../ascendspeed/toolchain.ts'
import { watchTool } from '../../ascendspeed/watch-training.ts'
import { createNames } from '../../data/dataset-names.ts'
import { handlerNamed } from '../../data/handlers/registry.ts'
import { loadTokenizer } from '../../data/tokenizer/tokenizer.ts'
import type { EndedJob, Known, StepContext } from '../../flow/call.ts'
import type { WatchFacts } from '../../flow/job-watch.ts'
import type { Launch } from '../../flow/launch.ts'
import { openIndexedDataset } from '../../formats/indexed-dataset.ts'
import type { MegatronDataset } from '../artifacts.ts'
import type { PreprocessInput } from '../preprocess-input.ts'
import { proved, unproved } from './evidence.ts'
import { toolchainFacts, toolchainLaunch } from './toolchain-fields.ts'

type Input = PreprocessInput & { readonly toolchain: Toolchain }
type Place = Pick<StepContext, 'workDir'>

const prefixIn = ({ workDir }: Place) => join(workDir, 'data')

/** `preprocess` as a job of the toolchain. */
export const preprocessJob = {
  launch: (input: Input, place: Place): Launch =>
    toolchainLaunch(preprocessCommand(input.toolchain, preprocessingOf(input, prefixIn(place))), input),

  /** A shorter attempt would leave the tail of a longer one's files, and parts of `--n-subs` lie beside them. */
  prepare: async (_: Input, { workDir }: Place): Promise<void> => {
    for (const name of await readdir(workDir)) await rm(join(workDir, name), { recursive: true, force: true })
  },

  watch: (_: Input, facts: WatchFacts) => watchTool(facts),
  collect: async (input: Input, context: StepContext & EndedJob): Promise<MegatronDataset> => {
    const { promptType, mapKeys, corpus } = input
    const handler = handlerNamed(input.handler, { promptType, mapKeys })
    const textKeys = Array.isArray(corpus) ? ['text'] : [corpus.textKey]
    const names = createNames(handler, { outputPrefix: prefixIn(context), jsonKeys: input.jsonKeys ?? textKeys })
    const set = await proved(context, () => names.setOf('train', names.train.map(countOf)))
    const [first, ...others] = set.datasets
    const other = names.isInstruction ? others.find(dataset => dataset.tokens !== first?.tokens) : undefined
    if (other)
      throw unproved(context, {
        what: `${first?.prefix} has ${first?.tokens} tokens and ${other.prefix}, which goes with it, ${other.tokens}`,
        retryable: true,
      })
    if (set.sequences === 0)
      throw unproved(context, {
        ...{ what: `it kept no row of ${'path' in corpus ? corpus.path : 'the corpus'}`, retryable: false },
        hint: 'Look at the columns of the rows, and at seqLength: rows of that many tokens or more are dropped.',
      })
    const tokenizer = await loadTokenizer(input.tokenizer.path)
    const { vocabSize } = handler.tokenizerFacts?.(tokenizer) ?? tokenizer
    const counts = { samples: set.sequences, tokens: set.tokens, vocabSize }
    return { kind: 'megatron-dataset', path: set.dataPath, instruction: names.isInstruction, ...counts }
  },
}

/** @throws UnsupportedError, InputError naming what the toolchain has no like of. */
export function checkPreprocessing(known: Known<PreprocessInput>): readonly string[] {
  const { corpus, tokenizer, handler = 'GeneralPretrainHandler', appendEod = false, ...rest } = known
  return toolchainFacts(known, toolchain => {
    // A corpus of which only parts are known is not judged yet.
    if (!corpus || !tokenizer?.path || (!Array.isArray(corpus) && !('path' in corpus && corpus.path))) return undefined
    const input = { ...rest, corpus, tokenizer, handler, appendEod } as PreprocessStepInput
    return preprocessCommand(toolchain, preprocessingOf(input, '/'))
  })
}

/** What is in a dataset, of which the whole index and the size of the data are checked. */
function countOf(prefix: string): { sequences: number; documents: number; tokens: number } {
  const { lengths, documents, tokens, close } = openIndexedDataset(prefix)
  close()
  return { sequences: lengths.length, documents: documents.length - 1, tokens }
}
