import { type EncodingBuffers, reserveIds } from './encoding-buffers.ts'
import { hashUnits } from './token-table.ts'

/** Ids of pieces of text that were encoded before, found by their code units: no string is made, nothing allocated. */
export interface WordCache {
  /** Appends the ids of the units from `start` to `end`; false when they are not known. */
  recall(start: number, end: number): boolean
  /** Keeps the ids from `firstId` on for a piece that `recall` did not know. Long pieces are not kept. */
  keep(start: number, end: number, firstId: number): void
}

/** Longest piece that is kept, in code units: longer ones rarely come twice. */
const longestKey = 48
const slotCount = 1 << 18
const keyUnits = 1 << 21
const idCount = 1 << 20

/**
 * A cache of at most 14 MiB. When it is full it starts afresh, which is cheaper than choosing what to forget.
 *
 * A slot is four numbers: hash, first unit of the key, its length and the number of ids, first id. Length 0 is empty.
 */
export function createWordCache(buffers: EncodingBuffers): WordCache {
  const slots = new Int32Array(4 * slotCount)
  const keys = new Uint16Array(keyUnits)
  const kept = new Int32Array(idCount)
  let entries = 0
  let usedKeys = 0
  let usedIds = 0

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
        while (i < length && keys[key + i] === units[start + i]) i++
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
      const first = slots[slot + 3] as number
      if (buffers.length + count > buffers.ids.length) reserveIds(buffers, count)
      const { ids } = buffers
      let at = buffers.length
      for (let i = first; i < first + count; i++) ids[at++] = kept[i] as number
      buffers.length = at
      return true
    },
    keep(start, end, firstId) {
      const length = end - start
      const count = buffers.length - firstId
      if (length > longestKey) return
      if (entries > slotCount / 2 || usedKeys + length > keyUnits || usedIds + count > idCount) {
        slots.fill(0)
        entries = usedKeys = usedIds = 0
      }
      const slot = place(buffers.units, start, end)
      for (let i = start; i < end; i++) keys[usedKeys + i - start] = buffers.units[i] as number
      for (let i = 0; i < count; i++) kept[usedIds + i] = buffers.ids[firstId + i] as number
      slots[slot + 1] = usedKeys
      slots[slot + 2] = (length << 16) | count
      slots[slot + 3] = usedIds
      usedKeys += length
      usedIds += count
      entries++
    },
  }
}
