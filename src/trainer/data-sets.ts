import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { InputError } from '../errors.ts'
import { type IndexedDataset, openIndexedDataset } from '../formats/indexed-dataset.ts'
import type { TrainOptions } from './arguments.ts'
import { instructionSamples, pretrainingSamples, type Samples, type SamplesOptions } from './batches.ts'
import { instructionSplits, pretrainingSplits, type SequenceRange } from './splits.ts'

/** What one run reads: samples to train on, and to evaluate on where there are any. */
export interface DataSets {
  readonly train: Samples
  readonly valid?: Samples
  readonly test?: Samples
  /** Names the training data: equal for equal files, wherever they lie. */
  readonly digest: string
  /** Names what is evaluated: the data, and how much of it. */
  readonly validDigest: string
  close(): void
}

/**
 * Opens the data sets of a run and lays their samples out.
 *
 * Unlike Megatron, which goes on through its validation data, every evaluation reads the same samples from the
 * start, so that its losses can be compared.
 * @throws FormatError on damaged files, InputError when the split leaves nothing to train on.
 */
export async function openDataSets(options: TrainOptions, vocabSize: number): Promise<DataSets> {
  const opened: OpenData[] = []
  const close = () => {
    for (const set of opened.flatMap(data => data.sets)) set.close()
  }
  try {
    const openAt = (prefix: string) => {
      const data = openData(prefix, options.isInstructionDataset)
      opened.push(data)
      return data
    }
    const { seqLength, seed, globalBatchSize, trainIters, evalIters } = options
    const lay = (data: OpenData, range: SequenceRange | undefined, batches: number) =>
      range && batches > 0
        ? data.samples({ range, samples: batches * globalBatchSize, seqLength, seed, vocabSize })
        : undefined

    const data = openAt(options.dataPath)
    const { train: range, valid: validRange, test: testRange } = data.splits(options.split)
    const train = lay(data, range, trainIters)
    if (!train) {
      throw new InputError(
        `${options.dataPath} has ${data.rows} sequences, none of which --split ${options.split} trains on.`,
      )
    }
    const held = options.validDataPath === undefined ? undefined : openAt(options.validDataPath)
    const valid = held ? lay(held, { first: 0, end: held.rows }, evalIters) : lay(data, validRange, evalIters)
    const test = held ? undefined : lay(data, testRange, evalIters)
    const trainDigest = await digest(data.sets)
    const validDigest = `${held ? await digest(held.sets) : trainDigest} ${evalIters}`
    return { train, ...(valid && { valid }), ...(test && { test }), digest: trainDigest, validDigest, close }
  } catch (error) {
    close()
    throw error
  }
}

interface OpenData {
  readonly sets: readonly IndexedDataset[]
  readonly rows: number
  splits(split: string): ReturnType<typeof pretrainingSplits>
  samples(options: SamplesOptions): Samples
}

function openData(prefix: string, isInstruction: boolean): OpenData {
  if (!isInstruction) {
    const set = openIndexedDataset(prefix)
    const rows = set.lengths.length
    return {
      sets: [set],
      rows,
      splits: split => pretrainingSplits(split, rows),
      samples: options => pretrainingSamples(set, options),
    }
  }
  const sets: IndexedDataset[] = []
  try {
    for (const field of ['input_ids', 'attention_mask', 'labels']) {
      sets.push(openIndexedDataset(`${prefix}_packed_${field}_document`))
    }
  } catch (error) {
    for (const set of sets) set.close()
    throw error
  }
  const [inputIds, attentionMask, labels] = sets as [IndexedDataset, IndexedDataset, IndexedDataset]
  const rows = inputIds.lengths.length
  return {
    sets,
    rows,
    splits: split => instructionSplits(split, rows),
    samples: options => instructionSamples({ inputIds, attentionMask, labels }, options),
  }
}

/** Files up to this size are read whole for the digest; of larger ones, sixteen pieces of 64 KiB. */
const wholeBytes = 64 << 20
const pieceBytes = 64 << 10

async function digest(sets: readonly IndexedDataset[]): Promise<string> {
  const hash = createHash('sha256')
  for (const { prefix } of sets) {
    for (const file of [`${prefix}.idx`, `${prefix}.bin`]) await addFile(hash, file)
  }
  return hash.digest('hex')
}

async function addFile(hash: Hash, path: string): Promise<void> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    hash.update(`${size} `)
    if (size <= wholeBytes) {
      for await (const chunk of createReadStream(path)) hash.update(chunk)
      return
    }
    const piece = Buffer.alloc(pieceBytes)
    for (let i = 0; i < 16; i++) {
      const { bytesRead } = await file.read(piece, 0, pieceBytes, Math.floor(((size - pieceBytes) * i) / 15))
      hash.update(piece.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}
