import { LayoutError } from '../errors.ts'

export interface TrainingIterationsOptions {
  /** Samples of one epoch: rows of an instruction dataset. Give this or `tokens`. */
  readonly samples?: number
  /** Tokens of one epoch of a pretraining dataset, which Megatron cuts into windows of `seqLength`. */
  readonly tokens?: number
  /** Needed with `tokens`. */
  readonly seqLength?: number
  readonly globalBatchSize: number
  /** Default 1. May be a fraction, and is taken as the decimal that is written: 0.1 is a tenth. */
  readonly epochs?: number
}

/**
 * Iterations that see the data `epochs` times, in exact arithmetic. Rounds down, as Megatron does with samples.
 *
 * Documents are concatenated over all epochs before windows are cut, and a window needs one token more than its
 * length for its last label (Megatron-LM core_r0.6.0, gpt_dataset.py:561-577), so tokens give
 * `⌊(⌊tokens · epochs⌋ − 1) / seqLength⌋` samples.
 * @throws LayoutError when the data does not fill one global batch, with the numbers.
 */
export function trainingIterations(options: TrainingIterationsOptions): number {
  const { samples = 0, tokens, seqLength, globalBatchSize, epochs = 1 } = options
  counting('globalBatchSize', globalBatchSize)
  const all =
    tokens === undefined
      ? floorProduct(samples, epochs)
      : (floorProduct(tokens, epochs) - 1n) / BigInt(counting('seqLength', seqLength))
  const iterations = Number(all / BigInt(globalBatchSize))
  if (iterations > Number.MAX_SAFE_INTEGER)
    throw new LayoutError(`${epochs} epochs are more iterations than can be counted.`)
  if (iterations >= 1) return iterations
  const from = tokens === undefined ? `${samples} samples` : `${tokens} tokens in windows of ${seqLength}`
  const made = all > 0n ? Number(all) : 0
  throw new LayoutError(
    `${from} × ${epochs} epochs = ${made} samples do not fill one global batch of ${globalBatchSize}.`,
    { hint: `Use a globalBatchSize of at most ${Math.max(1, made)}, more epochs, or more data.` },
  )
}

/**
 * Iterations by the vendor's guide: `SN / GBS * EPOCH` in whole numbers, so that rows that do not fill the last
 * global batch of an epoch are lost in each of them. Undefined where the shell cannot compute it: a fraction of epochs.
 */
export function guideIterations(rows: number, globalBatchSize: number, epochs = 1): number | undefined {
  return Number.isInteger(epochs) ? Math.floor(rows / globalBatchSize) * epochs : undefined
}

/** `⌊count · decimal⌋`, where `decimal` is what JavaScript prints for it, not the binary fraction behind that. */
function floorProduct(count: number, decimal: number): bigint {
  if (!Number.isFinite(decimal) || decimal < 0) throw new LayoutError(`epochs ${decimal} is no number from 0.`)
  if (!Number.isSafeInteger(count) || count < 0) throw new LayoutError(`${count} is no count of samples or tokens.`)
  const [, whole = '', fraction = '', exponent = '0'] =
    /^(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(String(decimal)) ?? []
  const scale = Number(exponent) - fraction.length
  const product = BigInt(count) * BigInt(whole + fraction)
  return scale >= 0 ? product * 10n ** BigInt(scale) : product / 10n ** BigInt(-scale)
}

function counting(name: string, value: number | undefined): number {
  if (value === undefined || !Number.isSafeInteger(value) || value < 1)
    throw new LayoutError(`${name} ${value} is not a positive integer.`)
  return value
}
