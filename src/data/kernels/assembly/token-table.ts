// Tokens by their units: open addressing over a pool, as tokenizer/token-table.ts describes it.
import { unitAt } from './characters'

/** The slot that has the entry whose token is these units, or the empty one where it belongs; an entry counts from one. */
// @ts-ignore: decorator
@inline
export function slotOf(start: usize, end: usize, slots: usize, mask: u32, starts: usize, pool: usize): usize {
  let hash = <u32>((end - start) >> 1)
  for (let i = start; i < end; i += 2) hash = (hash ^ unitAt(i)) * 0x9e3779b1
  let slot = (hash ^ (hash >> 15)) & mask
  let entry = load<i32>(slots + (<usize>slot << 2)) - 1
  while (entry >= 0 && !isEntry(entry, start, end, starts, pool)) {
    slot = (slot + 1) & mask
    entry = load<i32>(slots + (<usize>slot << 2)) - 1
  }
  return slots + (<usize>slot << 2)
}

/** Whether the token of an entry, here counted from zero, is these units. */
// @ts-ignore: decorator
@inline
export function isEntry(entry: i32, start: usize, end: usize, starts: usize, pool: usize): bool {
  const place = starts + (<usize>entry << 2)
  const key = load<i32>(place)
  if (load<i32>(place, 4) - key != <i32>((end - start) >> 1)) return false
  const text = pool + (<usize>key << 1)
  let i: usize = 0
  while (start + i < end && load<u16>(text + i) == load<u16>(start + i)) i += 2
  return start + i == end
}
