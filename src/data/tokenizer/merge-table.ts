import type { BpeModel } from './bpe-model.ts'

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
export function createMergeSlots({ merges: { count, pairs, ranks }, memory }: BpeModel): Int32Array {
  const capacity = 1 << Math.max(4, Math.ceil(Math.log2(count * 1.5 + 1)))
  const slots = memory.ints(4 * capacity)
  const ranksAt = ranks ? memory.place(ranks).byteOffset : 0
  memory.kernel.indexMerges(memory.place(pairs).byteOffset, ranksAt, count, slots.byteOffset, capacity - 1)
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
