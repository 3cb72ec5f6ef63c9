import { LayoutError } from '../errors.ts'

export interface VocabPaddingOptions {
  /** Rows of the embedding as Hugging Face stores it. */
  readonly vocabSize: number
  readonly tp: number
  /** `--make-vocab-size-divisible-by`; default 1, which is what the 1.1 converter always uses. */
  readonly divisor?: number
}

/**
 * Rows of the embedding in a Megatron checkpoint: the smallest multiple of `divisor * tp` that holds the vocabulary.
 * Training must use the same number (`--padded-vocab-size`, or the same divisor and an equally long tokenizer).
 *
 * Source: Megatron-LM core_r0.6.0, megatron/training/tokenizer/tokenizer.py, `_vocab_size_with_padding`.
 */
export function paddedVocabSize(options: VocabPaddingOptions): number {
  const { vocabSize, tp, divisor = 1 } = options
  for (const [name, value] of Object.entries({ vocabSize, tp, divisor })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new LayoutError(`${name} is ${value}; it must be a whole number from 1.`)
  }
  const multiple = divisor * tp
  return Math.ceil(vocabSize / multiple) * multiple
}
