import { sharedArrays } from './shared-arrays.ts'
import type { TokenList } from './token-table.ts'

/** The text of each id. Plain numbers, which threads share. */
export interface TokenTexts {
  /** Where the text of an id starts in the pool, and where it ends. */
  readonly starts: Int32Array
  readonly ends: Int32Array
  readonly pool: Uint16Array
}

/** Of two texts of one id the later counts. */
export function createTokenTexts(lists: readonly TokenList[]): TokenTexts {
  let highest = -1
  for (const { ids } of lists) for (const id of ids) highest = Math.max(highest, id)
  const [starts, ends] = [sharedArrays.ints(highest + 1), sharedArrays.ints(highest + 1)]
  const pool = sharedArrays.units(lists.reduce((sum, list) => sum + list.pool.length, 0))
  let filled = 0
  for (const list of lists) {
    for (const [entry, id] of list.ids.entries()) {
      starts[id] = filled + (list.starts[entry] as number)
      ends[id] = filled + (list.starts[entry + 1] as number)
    }
    pool.set(list.pool, filled)
    filled += list.pool.length
  }
  return { starts, ends, pool }
}

/** Text of an id; empty where there is none. */
export function textOf({ starts, ends, pool }: TokenTexts, id: number): string {
  const [start = 0, end = 0] = [starts[id], ends[id]]
  return Buffer.from(pool.buffer, 2 * start, 2 * (end - start)).toString('utf16le')
}
