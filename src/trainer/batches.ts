import { FormatError, UnsupportedError } from '../errors.ts'
import type { IndexedDataset } from '../formats/indexed-dataset.ts'
import { rowOrder, windowOrder, windowParts } from './sample-order.ts'
import type { SequenceRange } from './splits.ts'

/** Label that the loss passes over. Source: PyTorch's cross entropy, `ignore_index`. */
export const ignoredLabel = -100

/** Training samples in the order of their use. */
export interface Samples {
  readonly count: number
  /** Fills `tokens` and `labels`, of `seqLength` elements both; labels are those of the next token. */
  read(sample: number, tokens: Int32Array, labels: Int32Array): void
  /** Where a sample comes from: data set and sequences. */
  describe(sample: number): string
}

export interface SamplesOptions {
  readonly range: SequenceRange
  /** Samples that will be read. */
  readonly samples: number
  readonly seqLength: number
  readonly seed: number
  /** Token ids are below this. */
  readonly vocabSize: number
}

/** Windows of `seqLength + 1` tokens in the order of Megatron's GPTDataset. */
export function pretrainingSamples(dataset: IndexedDataset, options: SamplesOptions): Samples {
  const { range, vocabSize } = options
  const order = windowOrder(dataset.lengths, { ...range, ...options })
  const parts = (sample: number) => windowParts(order, dataset.lengths, sample)
  const window = new Int32Array(options.seqLength + 1)
  return {
    count: order.shuffleIndex.length,
    read(sample, tokens, labels) {
      let filled = 0
      for (const { sequence, offset, length } of parts(sample)) {
        const read = dataset.sequence(sequence, { offset, length })
        checkTokens(read, { dataset, sequence, offset, vocabSize })
        window.set(read, filled)
        filled += length
      }
      tokens.set(window.subarray(0, -1))
      labels.set(window.subarray(1))
    },
    describe: sample => {
      const [first, ...others] = parts(sample).map(part => part.sequence)
      return `${dataset.prefix}, sequence ${[first, ...others.slice(-1)].join(' to ')}`
    },
  }
}

/** The three data sets that ModelLink's instruction handlers write for one prefix. */
export interface InstructionDataset {
  readonly inputIds: IndexedDataset
  readonly attentionMask: IndexedDataset
  readonly labels: IndexedDataset
}

/**
 * Instruction rows in the order of ModelLink's packed reader, one row a sample.
 *
 * Labels are shifted by one when read, longer rows cut to `seqLength`, shorter ones filled up with labels of -100.
 * Source: ModelLink 1.1, decoder_packed_mtf_dataset.py, `__getitem__`.
 * @throws FormatError when the three fields of a row differ in length; UnsupportedError for a mask with a zero.
 */
export function instructionSamples(dataset: InstructionDataset, options: SamplesOptions): Samples {
  const { range, seqLength, vocabSize } = options
  const { inputIds, attentionMask, labels: labelSet } = dataset
  const order = rowOrder({ ...range, ...options })
  return {
    count: order.length,
    read(sample, tokens, labels) {
      const row = order[sample] as number
      checkLengths(dataset, row)
      const length = Math.min(seqLength, (inputIds.lengths[row] as number) - 1)
      const ids = inputIds.sequence(row, { offset: 0, length })
      const next = labelSet.sequence(row, { offset: 1, length })
      checkTokens(ids, { dataset: inputIds, sequence: row, offset: 0, vocabSize })
      checkTokens(next, { dataset: labelSet, sequence: row, offset: 1, vocabSize, isLabel: true })
      if (attentionMask.sequence(row, { offset: 0, length }).some(mask => mask !== 1)) {
        throw new UnsupportedError(
          `${attentionMask.prefix}, row ${row}: the mask hides tokens, which the embedded trainer cannot do.`,
        )
      }
      tokens.fill(0).set(ids)
      labels.fill(ignoredLabel).set(next)
    },
    describe: sample => `${inputIds.prefix}, row ${order[sample]}`,
  }
}

/** Samples `first` to `first + microBatchSize`, as two arrays of [microBatchSize, seqLength]. */
export function microBatch(
  samples: Samples,
  first: number,
  { microBatchSize, seqLength }: { readonly microBatchSize: number; readonly seqLength: number },
): { readonly tokens: Int32Array; readonly labels: Int32Array } {
  const tokens = new Int32Array(microBatchSize * seqLength)
  const labels = new Int32Array(microBatchSize * seqLength)
  for (let i = 0; i < microBatchSize; i++) {
    const [from, to] = [i * seqLength, (i + 1) * seqLength]
    samples.read(first + i, tokens.subarray(from, to), labels.subarray(from, to))
  }
  return { tokens, labels }
}

function checkLengths({ inputIds, attentionMask, labels }: InstructionDataset, row: number): void {
  const expected = inputIds.lengths[row] as number
  for (const field of [attentionMask, labels]) {
    const found = field.lengths[row]
    if (found !== expected) {
      throw new FormatError({
        file: `${field.prefix}.idx`,
        expected: `${expected} tokens in row ${row}, as in ${inputIds.prefix}.idx`,
        found: `${found ?? 'no such row'}`,
      })
    }
  }
  if (expected === 0)
    throw new FormatError({ file: `${inputIds.prefix}.idx`, expected: `tokens in row ${row}`, found: 'none' })
}

interface TokenPlace {
  readonly dataset: IndexedDataset
  readonly sequence: number
  readonly offset: number
  readonly vocabSize: number
  readonly isLabel?: boolean
}

function checkTokens(tokens: Int32Array, { dataset, sequence, offset, vocabSize, isLabel }: TokenPlace): void {
  const wrong = tokens.findIndex(id => (id < 0 || id >= vocabSize) && !(isLabel && id === ignoredLabel))
  if (wrong < 0) return
  throw new FormatError({
    file: `${dataset.prefix}.bin`,
    expected: `token ids from 0 to ${vocabSize - 1} (the model's vocabulary)`,
    found: `${tokens[wrong]} in row ${sequence}, token ${offset + wrong}`,
    hint: 'Was the data made with the tokenizer of this model?',
  })
}
