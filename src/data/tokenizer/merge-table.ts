import type { BpeModel } from './bpe-model.ts'
import { sharedInts } from './shared-arrays.ts'

/** The merges of a BPE model, looked up by the two ids that meet. */
export interface MergeTable {
  /** Where the merge of `left` and `right` stands in `slots`, or -1 when there is none. */
  find(left: number, right: number): number
  /** Four numbers a merge: left, right, rank, id of the result. Threads share them. */
  readonly slots: Int32Array
}

/** Offset of the rank in a slot: the lower, the earlier it is applied. */
export const rankAt = 2
/** Offset of the resulting id in a slot. */
export const resultAt = 3

/**
 * Open addressing in one Int32Array, at most two thirds full: a probe touches one cache line and allocates nothing.
 * Of two merges of the same pair the later one counts, as in Hugging Face tokenizers, which collect them in a map.
 */
export function createMergeSlots(merges: BpeModel['merges']): Int32Array {
  const { count, pairs, ranks } = merges
  const capacity = 1 << Math.max(4, Math.ceil(Math.log2(count * 1.5 + 1)))
  const slots = sharedInts(4 * capacity).fill(-1)
  const probe = createProbe(slots)
  for (let i = 0; i < count; i++) {
    const [left, right, result] = [pairs[3 * i] as number, pairs[3 * i + 1] as number, pairs[3 * i + 2] as number]
    const at = probe(left, right)
    slots[at] = left
    slots[at + 1] = right
    slots[at + rankAt] = ranks ? (ranks[i] as number) : i
    slots[at + resultAt] = result
  }
  return slots
}

export function createMergeTable(slots: Int32Array): MergeTable {
  const probe = createProbe(slots)
  return {
    slots,
    find(left, right) {
      const at = probe(left, right)
      return slots[at] === -1 ? -1 : at
    },
  }
}

/** Place of the slot that holds the pair, or of the empty one where it belongs. */
function createProbe(slots: Int32Array): (left: number, right: number) => number {
  const mask = slots.length / 4 - 1
  return (left, right) => {
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 0
    slot = (slot ^ (slot >>> 15)) & mask
    for (;;) {
      const at = slot << 2
      const found = slots[at] as number
      if (found === -1 || (found === left && slots[at + 1] === right)) return at
      slot = (slot + 1) & mask
    }
  }
}
