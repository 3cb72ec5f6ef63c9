// Merging as BPE defines it: always the pair of lowest rank, of equal ones the leftmost.
import { ranksAt, resultsAt, symbolsAt } from './region'
import { mergeMask, mergeSlots } from './tables'

const noRank: i32 = 0x7fffffff

/** Notes rank and result of the pair that starts at symbol `i`. */
// @ts-ignore: decorator
@inline
function look(i: usize): void {
  const left = load<u32>(symbolsAt + i)
  const right = load<u32>(symbolsAt + i, 4)
  let slot = (left * 0x9e3779b1) ^ (right * 0x85ebca6b)
  slot = (slot ^ (slot >> 15)) & mergeMask
  const wanted = (<u64>right << 32) | <u64>left
  for (;;) {
    const at = mergeSlots + (<usize>slot << 4)
    if (load<u64>(at) == wanted) {
      store<i32>(ranksAt + i, load<i32>(at, 8))
      store<i32>(resultsAt + i, load<i32>(at, 12))
      return
    }
    if (load<i32>(at) == -1) break
    slot = (slot + 1) & mergeMask
  }
  store<i32>(ranksAt + i, noRank)
}

/** Merges the first `count` symbols, in place, and returns how many are left. */
export function merge(count: i32): i32 {
  let end: usize = <usize>(count - 1) << 2
  if (count < 2) return count
  for (let i: usize = 0; i < end; i += 4) look(i)
  while (end > 0) {
    let best: usize = 0
    let bestRank = load<i32>(ranksAt)
    for (let i: usize = 4; i < end; i += 4) {
      const rank = load<i32>(ranksAt + i)
      if (rank < bestRank) {
        bestRank = rank
        best = i
      }
    }
    if (bestRank == noRank) break
    store<i32>(symbolsAt + best, load<i32>(resultsAt + best))
    for (let i = best + 4; i < end; i += 4) {
      store<i32>(symbolsAt + i, load<i32>(symbolsAt + i, 4))
      store<i32>(ranksAt + i, load<i32>(ranksAt + i, 4))
      store<i32>(resultsAt + i, load<i32>(resultsAt + i, 4))
    }
    end -= 4
    if (best > 0) look(best - 4)
    if (best < end) look(best)
  }
  return <i32>(end >> 2) + 1
}
