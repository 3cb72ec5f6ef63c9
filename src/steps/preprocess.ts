import { join } from 'node:path'
import { z } from 'zod'
import { findInputs } from '../data/find-inputs.ts'
import { handlerNamed } from '../data/handlers/registry.ts'
import { preprocessCorpus } from '../data/preprocess.ts'
import { summarize } from '../data/preprocess-report.ts'
import type { RowCount } from '../data/row-count.ts'
import { loadTokenizer } from '../data/tokenizer/tokenizer.ts'
import { fileDigest } from '../engine/artifact-files.ts'
import { InputError } from '../errors.ts'
import { defineArtifact } from '../flow/artifact.ts'
import { defineStep } from '../flow/step.ts'
import { datasetFacts, MegatronDataset } from './artifacts.ts'
import { PreprocessInput } from './preprocess-input.ts'

/** What `preprocess` gives: a dataset, with what was set aside and what was left out; `report.json` beside it says all. */
export interface PreprocessedDataset extends MegatronDataset {
  /** Absent when no validation data was asked for. */
  readonly validation?: MegatronDataset | undefined
  readonly report: ReportFacts
}

/** The report in numbers; see `PreprocessReport`. */
export interface ReportFacts
  extends Pick<
    RowCount,
    'rows' | 'kept' | 'empty' | 'invalidTurns' | 'bad' | 'overLength' | 'cut' | 'untrained' | 'trainTokens'
  > {
  readonly unknownRate: number
  readonly samplesPerEpoch?: number | undefined
  readonly inputDigest?: string | undefined
}

const count = z.number().int().nonnegative()

const ReportFacts = z.object({
  ...{ rows: count, kept: count, empty: count, invalidTurns: count, bad: count, overLength: count, cut: count },
  ...{ untrained: count, trainTokens: count, unknownRate: z.number() },
  ...{ samplesPerEpoch: count.optional(), inputDigest: z.string().optional() },
})

export const PreprocessedDataset: z.ZodType<PreprocessedDataset, PreprocessedDataset> =
  defineArtifact<PreprocessedDataset>('megatron-dataset', {
    ...datasetFacts,
    validation: MegatronDataset.optional(),
    report: ReportFacts,
  })

/** Input between two times that all is brought to the disk, so that a kill costs no more. */
const resumeEveryBytes = 256 << 20

/**
 * Tokenises a corpus into Megatron's indexed datasets, byte for byte as the toolchain's `preprocess_data.py` does.
 *
 * Runs in this process, with threads for large JSON lines. With `GeneralPretrainHandler` (default) each row's text is a
 * document; the other handlers make ids, masks and labels of instructions. After a kill it goes on where it was saved.
 * @throws InputError for a tokenizer without eos when `appendEod` is set (at plan time) and for a corpus of which no
 * row is kept; FormatError naming file, line and column of a damaged row.
 */
export const preprocess = defineStep({
  name: 'preprocess',
  version: 1,
  input: PreprocessInput,
  output: PreprocessedDataset,
  omitFromKey: ['workers'],
  check: async ({ tokenizer, handler = 'GeneralPretrainHandler', appendEod, promptType, mapKeys, compat }) => {
    const { tokenizerFacts } = handlerNamed(handler, {
      promptType,
      mapKeys: mapKeys as PreprocessInput['mapKeys'],
      compat,
    })
    if (!tokenizer?.path) return []
    const loaded = await loadTokenizer(tokenizer.path)
    const { vocabSize, eosId } = tokenizerFacts?.(loaded) ?? loaded
    if (appendEod && eosId === undefined)
      throw new InputError(`the tokenizer in ${tokenizer.path} has no eos token to append.`, {
        field: 'appendEod',
        hint: 'Name one as "eos_token" in its tokenizer_config.json, or leave appendEod out.',
      })
    return [`${handler}, vocabulary ${vocabSize.toLocaleString('en')}`, ...loaded.adjustments]
  },
}).run(async ({ corpus, tokenizer, ...options }, { workDir, signal, log, progress }) => {
  const corpora = Array.isArray(corpus) ? corpus : [{ corpus }]
  const files = []
  for (const { corpus, ...weighted } of corpora) {
    const found = await findInputs(corpus.path)
    for (const file of found.leftOut) log(`${file} left out: it is of another kind than the files that are read`)
    files.push({ ...weighted, files: found.files, jsonKeys: options.jsonKeys ?? [corpus.textKey] })
  }
  const result = await preprocessCorpus({
    ...options,
    ...{ files, tokenizerDir: tokenizer.path, signal, digestOf: fileDigest, resumeEveryBytes },
    outputPrefix: join(workDir, 'data'),
    reportFile: join(workDir, 'report.json'),
    onProgress: progress,
  })
  const { validation, report, vocabSize } = result
  for (const line of summarize(report)) log(line)
  const instruction = handlerNamed(options.handler, options).infix === '_packed'
  const datasetOf = ({ dataPath, sequences, tokens }: Pick<typeof result, 'dataPath' | 'sequences' | 'tokens'>) => ({
    ...{ kind: 'megatron-dataset' as const, path: dataPath, instruction, samples: sequences, tokens, vocabSize },
  })
  return { ...datasetOf(result), ...(validation && { validation: datasetOf(validation) }), report }
})
