import { LayoutError } from '../errors.ts'

export interface TrainingIterationsOptions {
  /** Samples of one epoch: rows of an instruction dataset. Give this or `tokens`. */
  readonly samples?: number
  /** Tokens of one epoch of a pretraining dataset, which Megatron cuts into windows of `seqLength`. */
  readonly tokens?: number
  /** Needed with `tokens`. */
  readonly seqLength?: number
  readonly globalBatchSize: number
  /** Default 1. May be a fraction. */
  readonly epochs?: number
}

/**
 * Iterations that see the data `epochs` times. Rounds down, as Megatron does with samples.
 *
 * Documents are concatenated over all epochs before windows are cut, and a window needs one token more than its
 * length for its last label (Megatron-LM core_r0.6.0, gpt_dataset.py:561-577), so tokens give
 * `⌊(⌊tokens · epochs⌋ − 1) / seqLength⌋` samples.
 * @throws LayoutError when the data does not fill one global batch, with the numbers.
 */
export function trainingIterations(options: TrainingIterationsOptions): number {
  const { samples, tokens, seqLength, globalBatchSize, epochs = 1 } = options
  const all =
    tokens === undefined
      ? Math.floor((samples ?? 0) * epochs)
      : Math.floor((Math.floor(tokens * epochs) - 1) / (seqLength ?? Number.NaN))
  const iterations = Math.floor(all / globalBatchSize)
  if (iterations >= 1) return iterations
  const from = tokens === undefined ? `${samples} samples` : `${tokens} tokens in windows of ${seqLength}`
  throw new LayoutError(
    `${from} × ${epochs} epochs = ${Math.max(0, all)} samples do not fill one global batch of ${globalBatchSize}.`,
    { hint: `Use a globalBatchSize of at most ${Math.max(1, all)}, more epochs, or more data.` },
  )
}
