import { type EncodingBuffers, reserveIds } from './encoding-buffers.ts'
import { hashUnits } from './token-table.ts'

/** Ids of pieces of text that were encoded before, found by their code units: no string is made, nothing allocated. */
export interface WordCache {
  /** Appends the ids of the units from `start` to `end` when they are known; false when they are not known. */
  recall(start: number, end: number): boolean
  /** Keeps the ids from `firstId` on for a piece that `recall` did not know. Long pieces are not kept. */
  keep(start: number, end: number, firstId: number): void
}

/** Longest piece that is kept, in code units: longer ones rarely come twice. */
const longestKey = 48
/** Most ids that are kept for a piece: a count has 8 bits. */
const mostIds = 255
const slotCount = 1 << 18
/** Units in the pool, and bits of a place in it. */
const placeBits = 22
const poolUnits = 3 << 20

/**
 * A cache of at most 7 MiB. When it is full it starts afresh, which is cheaper than choosing what to forget.
 *
 * A slot is one number, so that all slots fit a core's second-level cache: a place in the pool, from 1, and ten bits of
 * the hash; 0 is empty. The pool holds each key behind its length and number of ids, and its ids right behind it, two
 * units an id: what is compared and what is copied share a cache line.
 */
export function createWordCache(buffers: EncodingBuffers): WordCache {
  const slots = new Int32Array(slotCount)
  const pool = new Uint16Array(poolUnits)
  let entries = 0
  let used = 1

  /** Slot of the piece; where it is not known, the empty one where it belongs. */
  const find = (units: Uint16Array, start: number, end: number, hash: number) => {
    const length = end - start
    const tag = hash >>> placeBits
    let slot = hash & (slotCount - 1)
    for (;;) {
      const held = slots[slot] as number
      if (held === 0) return slot
      if (held >>> placeBits === tag) {
        const at = held & ((1 << placeBits) - 1)
        if ((pool[at] as number) >>> 8 === length) {
          let i = 0
          while (i < length && pool[at + 1 + i] === units[start + i]) i++
          if (i === length) return slot
        }
      }
      slot = (slot + 1) & (slotCount - 1)
    }
  }

  return {
    recall(start, end) {
      if (end - start > longestKey) return false
      const held = slots[find(buffers.units, start, end, hashUnits(buffers.units, start, end))] as number
      if (held === 0) return false
      const head = held & ((1 << placeBits) - 1)
      const count = (pool[head] as number) & mostIds
      if (buffers.length + count > buffers.ids.length) reserveIds(buffers, count)
      const { ids } = buffers
      let from = head + 1 + end - start
      let at = buffers.length
      const stop = at + count
      while (at < stop) {
        ids[at++] = (pool[from] as number) | ((pool[from + 1] as number) << 16)
        from += 2
      }
      buffers.length = at
      return true
    },
    keep(start, end, firstId) {
      const length = end - start
      const count = buffers.length - firstId
      if (length > longestKey || count > mostIds) return
      if (entries > slotCount / 2 || used + 1 + length + 2 * count > poolUnits) {
        slots.fill(0)
        entries = 0
        used = 1
      }
      const hash = hashUnits(buffers.units, start, end)
      slots[find(buffers.units, start, end, hash)] = ((hash >>> placeBits) << placeBits) | used
      pool[used++] = (length << 8) | count
      for (let i = start; i < end; i++) pool[used++] = buffers.units[i] as number
      for (let i = firstId; i < buffers.length; i++) {
        const id = buffers.ids[i] as number
        pool[used++] = id
        pool[used++] = id >>> 16
      }
      entries++
    },
  }
}
