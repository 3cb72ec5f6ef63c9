import { FormatError } from '../../errors.ts'
import { type BpeModel, limits } from './bpe-model.ts'

/**
 * All merges of a vocabulary that lists none: any two tokens join where their text together is a token, the better
 * token first. So merge sentencepiece (by score, the leftmost of equal ones) and tiktoken (by rank).
 * `symbols` are the texts that can meet; `rankOf` a token's place in the order, below 2^20 and equal for equals.
 */
export function impliedMerges(
  tokens: Iterable<readonly [text: string, id: number, rank: number]>,
  { symbols, file }: { symbols: ReadonlyMap<string, number>; file: string },
): BpeModel['merges'] {
  const pairs: number[] = []
  const ranks: number[] = []
  for (const [text, id, rank] of tokens) {
    for (let at = 1; at < text.length; at++) {
      if (isInsidePair(text, at)) continue
      const left = symbols.get(text.slice(0, at))
      if (left === undefined) continue
      const right = symbols.get(text.slice(at))
      if (right === undefined) continue
      pairs.push(left, right, id)
      ranks.push(rank)
    }
    if (ranks.length > limits.merges) {
      throw new FormatError({ file, expected: `at most ${limits.merges} ways to join tokens`, found: 'more' })
    }
  }
  return { count: ranks.length, pairs: Int32Array.from(pairs), ranks: Int32Array.from(ranks) }
}

function isInsidePair(text: string, at: number): boolean {
  const unit = text.charCodeAt(at)
  return unit >= 0xdc00 && unit < 0xe000
}
