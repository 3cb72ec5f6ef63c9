import { join } from 'node:path'
import { z } from 'zod'
import { findInputs } from '../data/find-inputs.ts'
import type { Handler } from '../data/handlers/handler.ts'
import { handlerOf } from '../data/handlers/registry.ts'
import { type PreprocessOptions, preprocessCorpus } from '../data/preprocess.ts'
import { summarize } from '../data/preprocess-report.ts'
import type { RowCount } from '../data/row-count.ts'
import { loadTokenizer } from '../data/tokenizer/tokenizer.ts'
import { fileDigest } from '../engine/artifact-files.ts'
import { InputError } from '../errors.ts'
import { defineArtifact } from '../flow/artifact.ts'
import type { Known, StepContext } from '../flow/call.ts'
import { datasetFacts, MegatronDataset } from './artifacts.ts'
import type { PreprocessFields } from './preprocess-input.ts'

/** What `preprocess` gives: a dataset, with what was set aside and what was left out; `report.json` beside it says all. */
export interface PreprocessedDataset extends MegatronDataset {
  /** Absent when no validation data was asked for. */
  readonly validation?: MegatronDataset | undefined
  /** Absent when a toolchain made it, which does not tell. */
  readonly report?: ReportFacts | undefined
}

/** The report in numbers; see `PreprocessReport`. */
export interface ReportFacts extends Omit<RowCount, 'lengths' | 'badRows'> {
  readonly unknownRate: number
  readonly seqLength?: number | undefined
  readonly samplesPerEpoch?: number | undefined
  readonly inputDigest?: string | undefined
}

const count = z.number().int().nonnegative()

const ReportFacts = z.object({
  ...{ rows: count, kept: count, empty: count, invalidTurns: count, wrongColumns: count, bad: count },
  ...{ overLength: count, cut: count },
  ...{ untrained: count, trainTokens: count, unknownTokens: count, unknownRate: z.number() },
  ...{ seqLength: count.optional(), samplesPerEpoch: count.optional(), inputDigest: z.string().optional() },
})

export const PreprocessedDataset: z.ZodType<PreprocessedDataset, PreprocessedDataset> =
  defineArtifact<PreprocessedDataset>('megatron-dataset', {
    ...datasetFacts,
    validation: MegatronDataset.optional(),
    report: ReportFacts.optional(),
  })

/** What became of the rows, in a few phrases. */
export function summarizeDataset({ report, validation, ...train }: PreprocessedDataset): readonly string[] {
  const samplesOf = ({ samples, tokens }: Pick<MegatronDataset, 'samples' | 'tokens'>) => ({
    sequences: samples,
    tokens,
  })
  if (report === undefined)
    return [`${train.samples.toLocaleString('en')} sequences, ${train.tokens.toLocaleString('en')} tokens`]
  return summarize({ ...report, train: samplesOf(train), validation: validation && samplesOf(validation) })
}

/** What rows are encoded with: a handler of the toolchain's by its name, or one of the user's own. */
type Encoding = Pick<PreprocessOptions, 'handler' | 'jsonKeys' | 'promptType' | 'mapKeys' | 'compat'>

/**
 * Facts of the tokenizer, as far as it is known.
 * @throws InputError when it has no eos to append.
 */
export async function checkEncoding(
  { tokenizer, appendEod }: Known<PreprocessFields>,
  { name, tokenizerFacts }: Handler,
): Promise<readonly string[]> {
  if (!tokenizer?.path) return []
  const loaded = await loadTokenizer(tokenizer.path)
  const { vocabSize, eosId } = tokenizerFacts?.(loaded) ?? loaded
  if (appendEod && eosId === undefined)
    throw new InputError(`the tokenizer in ${tokenizer.path} has no eos token to append.`, {
      field: 'appendEod',
      hint: 'Name one as "eos_token" in its tokenizer_config.json, or leave appendEod out.',
    })
  return [`${name}, vocabulary ${vocabSize.toLocaleString('en')}`, ...loaded.adjustments]
}

/** Input between two times that all is brought to the disk, so that a kill costs no more. */
const resumeEveryBytes = 256 << 20

/** Writes the dataset and its report into the call's own folder; a killed call goes on where all was last saved. */
export async function writeDataset(
  { corpus, tokenizer, ...options }: PreprocessFields & Encoding,
  { workDir, signal, log, progress }: StepContext,
): Promise<PreprocessedDataset> {
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
  for (const row of report.badRows) log(`left out: ${row}`)
  const instruction = handlerOf(options.handler, options).infix === '_packed'
  const datasetOf = ({ dataPath, sequences, tokens }: Pick<typeof result, 'dataPath' | 'sequences' | 'tokens'>) => ({
    ...{ kind: 'megatron-dataset' as const, path: dataPath, instruction, samples: sequences, tokens, vocabSize },
  })
  return { ...datasetOf(result), ...(validation && { validation: datasetOf(validation) }), report }
}
