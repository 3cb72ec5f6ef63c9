import { InputError } from '../errors.ts'
import { randomState } from './random-state.ts'

/** Which sequences of a data set are drawn from, and how many samples are wanted of them. */
export interface OrderOptions {
  /** First sequence (inclusive) and the one after the last. */
  readonly first: number
  readonly end: number
  /** Samples wanted; the order holds at least as many. */
  readonly samples: number
  readonly seed: number
}

/** Megatron's three indices: windows of `seqLength + 1` tokens laid over shuffled epochs of documents. */
export interface WindowOrder {
  /** Sequence numbers, epoch after epoch, shuffled. */
  readonly documentIndex: Int32Array
  /** Pairs (position in `documentIndex`, token offset) where window i starts; one pair more than there are windows. */
  readonly sampleIndex: Int32Array
  /** Window that the i-th sample reads. */
  readonly shuffleIndex: Uint32Array
}

/** A stretch of one sequence. */
export interface WindowPart {
  readonly sequence: number
  readonly offset: number
  readonly length: number
}

/**
 * The order in which Megatron reads pretraining windows.
 *
 * Epochs are as many as `samples` windows need; the last one is shuffled apart when fewer than 80 % of it is needed.
 * Memory: 4 bytes per sequence and epoch, 12 per window.
 * Source: Megatron-LM core_r0.6.0, gpt_dataset.py, `_build_document_sample_shuffle_indices`; helpers.cpp, `build_sample_idx`.
 * @throws InputError when the sequences hold too few tokens for a window in any number of epochs.
 */
export function windowOrder(
  sequenceLengths: Int32Array,
  options: OrderOptions & { readonly seqLength: number },
): WindowOrder {
  const { first, end, samples, seqLength } = options
  let tokensPerEpoch = 0
  for (let i = first; i < end; i++) tokensPerEpoch += sequenceLengths[i] as number
  if (tokensPerEpoch === 0) throw new InputError(`Sequences ${first} to ${end - 1} hold no token to train on.`)

  const epochs = Math.ceil((samples * seqLength + 1) / tokensPerEpoch)
  checkLength(epochs * (end - first), { passes: epochs, samples })
  const samplesBeforeLast = Math.floor(((epochs - 1) * tokensPerEpoch - 1) / seqLength)
  const samplesPerEpoch = Math.floor((tokensPerEpoch - 1) / seqLength)
  const lastApart = epochs > 1 && samples - samplesBeforeLast < Math.trunc(0.8 * samplesPerEpoch)

  const random = randomState(options.seed)
  const sequences = end - first
  const documentIndex = Int32Array.from({ length: epochs * sequences }, (_, i) => first + (i % sequences))
  const together = lastApart ? (epochs - 1) * sequences : documentIndex.length
  random.shuffle(documentIndex.subarray(0, together))
  random.shuffle(documentIndex.subarray(together))

  const windows = Math.floor((epochs * tokensPerEpoch - 1) / seqLength)
  const sampleIndex = windowStarts(sequenceLengths, documentIndex, windows, seqLength)
  const shuffleIndex = Uint32Array.from({ length: windows }, (_, i) => i)
  const windowsTogether = lastApart ? samplesBeforeLast : windows
  random.shuffle(shuffleIndex.subarray(0, windowsTogether))
  random.shuffle(shuffleIndex.subarray(windowsTogether))
  return { documentIndex, sampleIndex, shuffleIndex }
}

/** Where the `seqLength + 1` tokens of sample `sample` lie, in reading order. */
export function windowParts(order: WindowOrder, sequenceLengths: Int32Array, sample: number): WindowPart[] {
  const window = order.shuffleIndex[sample] as number
  const [begin, beginOffset, end, endOffset] = Array.from(order.sampleIndex.subarray(2 * window, 2 * window + 4))
  const parts: WindowPart[] = []
  for (let i = begin as number; i <= (end as number); i++) {
    const sequence = order.documentIndex[i] as number
    const offset = i === begin ? (beginOffset as number) : 0
    const stop = i === end ? (endOffset as number) + 1 : (sequenceLengths[sequence] as number)
    if (stop > offset) parts.push({ sequence, offset, length: stop - offset })
  }
  return parts
}

/**
 * Rows in the order in which ModelLink reads an instruction data set: whole shuffled passes, one after another.
 * Source: ModelLink 1.1, decoder_packed_mtf_dataset.py, `_build_index_mappings`.
 */
export function rowOrder(options: OrderOptions): Int32Array {
  const { first, end, samples } = options
  const rows = end - first
  const passes = Math.floor(samples / rows) + 1
  checkLength(passes * rows, { passes, samples })
  const random = randomState(options.seed)
  const order = Int32Array.from({ length: passes * rows }, (_, i) => first + (i % rows))
  for (let pass = 0; pass < passes; pass++) random.shuffle(order.subarray(pass * rows, (pass + 1) * rows))
  return order
}

/** Entries of an index, 4 bytes each, that are kept in memory at most. */
const longestIndex = 2 ** 28

function checkLength(entries: number, { passes, samples }: { passes: number; samples: number }): void {
  if (entries <= longestIndex) return
  throw new InputError(`${samples} samples take ${passes} passes over the data, an index of ${entries} entries.`, {
    hint: `At most ${longestIndex} are possible: train for fewer iterations, or on more data.`,
  })
}

function windowStarts(lengths: Int32Array, documentIndex: Int32Array, windows: number, seqLength: number): Int32Array {
  const starts = new Int32Array(2 * (windows + 1))
  let position = 0
  let offset = 0
  for (let window = 1; window <= windows; window++) {
    let remaining = seqLength + 1
    while (remaining > 0) {
      const left = (lengths[documentIndex[position] as number] as number) - offset
      remaining -= left
      if (remaining <= 0) {
        // One token is shared: the last of this window is the first of the next.
        offset += remaining + left - 1
      } else {
        position++
        offset = 0
      }
    }
    starts[2 * window] = position
    starts[2 * window + 1] = offset
  }
  return starts
}
