import { ignoredLabel } from './handlers/general-instruction.ts'

/** What becomes of sequences that are too long. */
export interface OverflowRule {
  /**
   * `drop` leaves out sequences of `seqLength` tokens or more, as ModelLink does; `truncate` cuts longer ones to
   * `limit`; `split` makes several of them.
   */
  readonly overflow: 'drop' | 'truncate' | 'split'
  readonly seqLength: number
  /** Longest sequence that `truncate` and `split` leave. */
  readonly limit: number
  /** Id that ends truncated texts, too; absent for instructions, whose answers do not end where they are cut. */
  readonly eod?: number | undefined
  /** Place of the labels among the values of one sequence. */
  readonly labels?: number | undefined
}

export interface RuledSequences {
  /** For each piece the values for each key. */
  readonly pieces: readonly (readonly Int32Array[])[]
  readonly overLength: number
  readonly cut: number
  readonly untrained: number
}

/** Whether a sequence of this length stays as it is. */
export function fits(length: number, { overflow, seqLength, limit }: OverflowRule): boolean {
  return overflow === 'drop' ? length < seqLength : length <= limit
}

/** Applies the rule to one sequence, given as its values for each key (ids, mask, labels), which are cut alike. */
export function ruleSequence(values: readonly Int32Array[], rule: OverflowRule): RuledSequences {
  const { overflow, limit, eod, labels } = rule
  let longest = 0
  for (const { length } of values) longest = Math.max(longest, length)
  if (fits(longest, rule)) return { pieces: [values], overLength: 0, cut: 0, untrained: 0 }
  if (overflow === 'drop') return { pieces: [], overLength: 1, cut: 0, untrained: 0 }
  const starts = overflow === 'truncate' ? [0] : Array.from({ length: Math.ceil(longest / limit) }, (_, i) => i * limit)
  const pieces = starts.map(start => values.map(value => value.slice(start, start + limit)))
  if (overflow === 'truncate' && eod !== undefined) for (const value of pieces[0] ?? []) value[limit - 1] = eod
  const trained = pieces.filter(piece => labels === undefined || piece[labels]?.some(label => label !== ignoredLabel))
  return { pieces: trained, overLength: 0, cut: 1, untrained: pieces.length - trained.length }
}
