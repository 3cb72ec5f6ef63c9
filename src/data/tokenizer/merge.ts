import { type MergeTable, rankAt, resultAt } from './merge-table.ts'

/** Applies a model's merges to the first `count` symbols, in place, and returns how many are left. */
export type Merge = (symbols: Int32Array, count: number) => number

/** Up to here a scan for the lowest rank beats keeping a heap. */
const longestScan = 200

const noRank = 0x7fffffff

/** Merging as BPE defines it: always the pair of lowest rank, of equal ones the leftmost. */
export function createMerge(table: MergeTable): Merge {
  const scan = createScanMerge(table)
  const heap = createHeapMerge(table)
  return (symbols, count) => (count <= longestScan ? scan(symbols, count) : heap(symbols, count))
}

function createScanMerge({ find, slots }: MergeTable): Merge {
  // Slot and rank of the pair that starts at each position, kept up to date as symbols merge.
  const ranks = new Int32Array(longestScan)
  const found = new Int32Array(longestScan)
  return (symbols, count) => {
    for (let i = 0; i + 1 < count; i++) {
      const slot = find(symbols[i] as number, symbols[i + 1] as number)
      found[i] = slot
      ranks[i] = slot < 0 ? noRank : (slots[slot + rankAt] as number)
    }
    let left = count
    while (left > 1) {
      let best = 0
      let bestRank = ranks[0] as number
      for (let i = 1; i < left - 1; i++) {
        const rank = ranks[i] as number
        if (rank < bestRank) {
          bestRank = rank
          best = i
        }
      }
      if (bestRank === noRank) return left
      symbols[best] = slots[(found[best] as number) + resultAt] as number
      left--
      for (let i = best + 1; i < left; i++) {
        symbols[i] = symbols[i + 1] as number
        ranks[i] = ranks[i + 1] as number
        found[i] = found[i + 1] as number
      }
      for (let i = best > 0 ? best - 1 : 0; i <= best && i + 1 < left; i++) {
        const slot = find(symbols[i] as number, symbols[i + 1] as number)
        found[i] = slot
        ranks[i] = slot < 0 ? noRank : (slots[slot + rankAt] as number)
      }
    }
    return left
  }
}

/** The same for long pieces in n log n: symbols in a linked list, candidate merges in a heap by rank, then place. */
function createHeapMerge({ find, slots }: MergeTable): Merge {
  let next = new Int32Array(0)
  let previous = new Int32Array(0)
  let heap = createHeap(0)
  return (symbols, count) => {
    if (next.length < count) {
      next = new Int32Array(2 * count)
      previous = new Int32Array(2 * count)
      heap = createHeap(2 * count)
    }
    const offer = (at: number, after: number) => {
      const slot = find(symbols[at] as number, symbols[after] as number)
      if (slot >= 0) heap.push(slots[slot + rankAt] as number, at)
    }
    heap.clear()
    for (let i = 0; i < count; i++) {
      next[i] = i + 1 < count ? i + 1 : -1
      previous[i] = i - 1
    }
    for (let i = 0; i + 1 < count; i++) offer(i, i + 1)
    for (let key = heap.pop(); key >= 0; key = heap.pop()) {
      const rank = Math.floor(key / rankUnit)
      const at = key - rank * rankUnit
      const after = next[at] as number
      // A symbol that was merged away has -1; a pair that changed since it was offered has another rank.
      if ((symbols[at] as number) < 0 || after < 0) continue
      const slot = find(symbols[at] as number, symbols[after] as number)
      if (slot < 0 || slots[slot + rankAt] !== rank) continue
      symbols[at] = slots[slot + resultAt] as number
      symbols[after] = -1
      const beyond = next[after] as number
      next[at] = beyond
      if (beyond >= 0) {
        previous[beyond] = at
        offer(at, beyond)
      }
      if ((previous[at] as number) >= 0) offer(previous[at] as number, at)
    }
    let left = 0
    for (let i = 0; i >= 0; i = next[i] as number) symbols[left++] = symbols[i] as number
    return left
  }
}

/** Puts rank and place into one number, ordered by rank, then by place. Exact: ranks have 22 bits, 53 are to be had. */
const rankUnit = 2 ** 31

/** A heap of candidate merges, four children a node. Each merge offers at most two and takes one away. */
function createHeap(symbols: number) {
  const keys = new Float64Array(3 * symbols + 2)
  let size = 0
  return {
    clear() {
      size = 0
    },
    push(rank: number, place: number) {
      const key = rank * rankUnit + place
      let at = size++
      while (at > 0) {
        const parent = (at - 1) >> 2
        if (key >= (keys[parent] as number)) break
        keys[at] = keys[parent] as number
        at = parent
      }
      keys[at] = key
    },
    /** The least key, taken away; -1 when there is none. */
    pop(): number {
      if (size === 0) return -1
      const least = keys[0] as number
      const key = keys[--size] as number
      let at = 0
      for (let first = 1; first < size; first = 4 * at + 1) {
        let child = first
        for (let other = first + 1; other < first + 4 && other < size; other++) {
          if ((keys[other] as number) < (keys[child] as number)) child = other
        }
        if (key <= (keys[child] as number)) break
        keys[at] = keys[child] as number
        at = child
      }
      keys[at] = key
      return least
    },
  }
}
