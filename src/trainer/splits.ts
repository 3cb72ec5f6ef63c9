import { InputError } from '../errors.ts'

/** Sequences from `first` (inclusive) to `end` (exclusive). */
export interface SequenceRange {
  readonly first: number
  readonly end: number
}

/** Which sequences train, validate and test; a part without sequences is absent. */
export interface Splits {
  readonly train?: SequenceRange
  readonly valid?: SequenceRange
  readonly test?: SequenceRange
}

/**
 * Megatron's split of a pretraining data set, `--split 949,50,1`: shares in any unit, missing ones are zero.
 * Source: Megatron-LM core_r0.6.0, blended_megatron_dataset_config.py and blended_megatron_dataset_builder.py.
 */
export function pretrainingSplits(split: string, sequences: number): Splits {
  const shares = normalized(split, split.match(/[.0-9]+/g) ?? [])
  const bounds = [0]
  for (const share of shares) bounds.push((bounds.at(-1) as number) + share)
  return splits(bounds.map(bound => roundHalfEven(bound * sequences)))
}

/**
 * Megatron's older split, which ModelLink uses for instruction data: rounding errors are taken from the front.
 * Source: Megatron-LM core_r0.6.0, legacy/data/dataset_utils.py, `get_train_valid_test_split_`.
 */
export function instructionSplits(split: string, rows: number): Splits {
  const shares = normalized(split, split.split(split.includes(',') ? ',' : '/').slice(0, 3))
  const bounds = [0]
  for (const share of shares) bounds.push((bounds.at(-1) as number) + roundHalfEven(share * rows))
  const excess = (bounds.at(-1) as number) - rows
  return splits(bounds.map((bound, i) => (i === 0 ? 0 : Math.max(0, bound - excess))))
}

function normalized(split: string, words: readonly string[]): number[] {
  const shares = words.map(Number)
  while (shares.length < 3) shares.push(0)
  const sum = shares.reduce((total, share) => total + share, 0)
  if (shares.length > 3 || !shares.every(share => share >= 0) || !(sum > 0)) {
    throw new InputError(`--split ${split}: expected up to three shares such as 949,50,1, not all of them zero.`)
  }
  return shares.map(share => share / sum)
}

function splits(bounds: readonly number[]): Splits {
  const range = (i: number): SequenceRange => ({ first: bounds[i] as number, end: bounds[i + 1] as number })
  const [train, valid, test] = [range(0), range(1), range(2)]
  const filled = ({ first, end }: SequenceRange) => end > first
  return { ...(filled(train) && { train }), ...(filled(valid) && { valid }), ...(filled(test) && { test }) }
}

/** Python's `round`: halves go to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest !== 0.5) return Math.round(value)
  return below % 2 === 0 ? below : below + 1
}
