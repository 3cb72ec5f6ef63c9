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
const slotCount = 1 << 18
const poolUnits = 3 << 20

/**
 * A cache of at most 10 MiB. When it is full it starts afresh, which is cheaper than choosing what to forget.
 *
 * A slot is a hash, a place in the pool, and length of the key and number of ids; length 0 is empty. The pool holds
 * each key with its ids right behind it, two units an id: what is compared and what is copied share a cache line.
 */
export function createWordCache(buffers: EncodingBuffers): WordCache {
  const slots = new Int32Array(4 * slotCount)
  const pool = new Uint16Array(poolUnits)
  let entries = 0
  let used = 0

  /** Place of the slot that holds the piece, or of the empty one where it belongs. */
  const place = (units: Uint16Array, start: number, end: number) => {
    const hash = hashUnits(units, start, end)
    const length = end - start
    let slot = (hash & (slotCount - 1)) << 2
    for (;;) {
      const meta = slots[slot + 2] as number
      if (meta === 0) {
        slots[slot] = hash
        return slot
      }
      if (slots[slot] === hash && meta >>> 16 === length) {
        const key = slots[slot + 1] as number
        let i = 0
        while (i < length && pool[key + i] === units[start + i]) i++
        if (i === length) return slot
      }
      slot = (slot + 4) & (4 * slotCount - 1)
    }
  }

  return {
    recall(start, end) {
      if (end - start > longestKey) return false
      const slot = place(buffers.units, start, end)
      const meta = slots[slot + 2] as number
      if (meta === 0) return false
      const count = meta & 0xffff
      if (buffers.length + count > buffers.ids.length) reserveIds(buffers, count)
      const { ids } = buffers
      let from = (slots[slot + 1] as number) + end - start
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
      if (length > longestKey) return
      if (entries > slotCount / 2 || used + length + 2 * count > poolUnits) {
        slots.fill(0)
        entries = used = 0
      }
      const slot = place(buffers.units, start, end)
      slots[slot + 1] = used
      slots[slot + 2] = (length << 16) | count
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
