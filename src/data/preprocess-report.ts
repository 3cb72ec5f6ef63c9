import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import type { DatasetCount } from '../formats/indexed-dataset-writer.ts'
import type { RowCount } from './row-count.ts'

/** What preprocessing read, kept and left out, and why: the content of `report.json`. */
export interface PreprocessReport extends Omit<RowCount, 'lengths'> {
  /** sha256 over names and digests of all input files, in their order; absent where digests were not asked for. */
  readonly inputDigest?: string | undefined
  readonly inputs: readonly InputFile[]
  readonly handler: string
  readonly seqLength?: number | undefined
  readonly vocabSize: number
  /** What is trained on, after packing and blending. */
  readonly train: DatasetCount
  readonly validation?: DatasetCount | undefined
  /** Share of the kept tokens that stand for what the vocabulary does not have. */
  readonly unknownRate: number
  /** Samples of `seqLength` tokens that one pass over the training data gives; absent without `seqLength`. */
  readonly samplesPerEpoch?: number | undefined
  /** Kept sequences by length, before packing; `to` is included. Lengths that none has are left out. */
  readonly lengths: readonly { readonly from: number; readonly to: number; readonly sequences: number }[]
  /** How often the documents of each corpus come in the training data. */
  readonly passes: readonly number[]
}

export interface InputFile {
  readonly file: string
  readonly bytes: number
  readonly digest?: string | undefined
}

export interface ReportFacts {
  readonly count: RowCount
  readonly inputs: readonly InputFile[]
  readonly handler: string
  readonly seqLength?: number | undefined
  readonly isInstruction: boolean
  readonly vocabSize: number
  readonly keptTokens: number
  readonly train: DatasetCount
  readonly validation?: DatasetCount | undefined
  readonly passes: readonly number[]
}

/** The report of some work that is done. */
export function makeReport(facts: ReportFacts): PreprocessReport {
  const { count, inputs, handler, seqLength, isInstruction, vocabSize, keptTokens, train, validation, passes } = facts
  const { lengths, ...counts } = count
  return {
    ...counts,
    ...digestOf(inputs),
    ...{ inputs, handler, vocabSize, train, passes },
    ...(seqLength === undefined ? {} : { seqLength, samplesPerEpoch: samplesOf(train, { seqLength, isInstruction }) }),
    ...(validation ? { validation } : {}),
    unknownRate: keptTokens === 0 ? 0 : count.unknownTokens / keptTokens,
    lengths: lengths
      .map((sequences, i) => ({ from: i === 0 ? 0 : 2 ** i, to: 2 ** (i + 1) - 1, sequences }))
      .filter(({ sequences }) => sequences > 0),
  }
}

/** Instructions are samples as they are; text is cut into windows, of which each needs one token more. */
function samplesOf(
  { sequences, tokens }: DatasetCount,
  { seqLength, isInstruction }: { seqLength: number; isInstruction: boolean },
): number {
  return isInstruction ? sequences : Math.max(0, Math.floor((tokens - 1) / seqLength))
}

function digestOf(inputs: readonly InputFile[]): { readonly inputDigest?: string } {
  if (inputs.some(({ digest }) => digest === undefined)) return {}
  const lines = inputs.map(({ file, digest }) => `${basename(file)} ${digest}\n`)
  return { inputDigest: createHash('sha256').update(lines.join('')).digest('hex') }
}

/** What is summed up of a report. */
export interface SummaryFacts extends Omit<PreprocessReport, 'badRows' | 'lengths' | Described> {
  readonly train: Samples
  readonly validation?: Samples | undefined
}

type Described = 'inputs' | 'handler' | 'vocabSize' | 'passes' | 'train' | 'validation'
type Samples = Pick<DatasetCount, 'sequences' | 'tokens'>

/** The report in a few phrases for people. */
export function summarize(report: SummaryFacts): readonly string[] {
  const { rows, empty, invalidTurns, wrongColumns, bad, overLength, cut, untrained } = report
  const { train, validation, seqLength, samplesPerEpoch } = report
  const n = (value: number) => value.toLocaleString('en')
  const dropped = [
    ...(empty > 0 ? [`${n(empty)} without text`] : []),
    ...(invalidTurns > 0 ? [`${n(invalidTurns)} with turns out of order`] : []),
    ...(wrongColumns > 0 ? [`${n(wrongColumns)} with wrong columns`] : []),
    ...(bad > 0 ? [`${n(bad)} that cannot be read`] : []),
    ...(overLength > 0 ? [`${n(overLength)} of ${seqLength} tokens or more`] : []),
    ...(untrained > 0 ? [`${n(untrained)} pieces without a trained token`] : []),
  ]
  const samples = samplesPerEpoch === undefined ? '' : `, ${n(samplesPerEpoch)} samples an epoch`
  return [
    `${n(rows)} rows read, ${n(report.kept)} kept; ${n(train.sequences)} sequences of ${n(train.tokens)} tokens${samples}`,
    ...(dropped.length > 0 ? [`left out: ${dropped.join(', ')}`] : []),
    ...(cut > 0 ? [`${n(cut)} sequences cut`] : []),
    ...(report.unknownTokens > 0 ? [`${(100 * report.unknownRate).toPrecision(2)} % of the tokens are unknown`] : []),
    ...(validation ? [`validation: ${n(validation.sequences)} sequences of ${n(validation.tokens)} tokens`] : []),
  ]
}
