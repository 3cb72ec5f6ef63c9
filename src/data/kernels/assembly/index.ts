import { startRows } from './lines'
import { firstId, out, piecesAt, partsAt, place, rewind, unitsAt } from './region'
import { readTables } from './tables'
import { encodeNormalized } from './text'
import { startCache } from './word-cache'

export { indexMerges, indexTokens, merges, scanMerges, scanVocabulary, tokens } from './bpe-file'
export { addHostRow, encodeLines, rows } from './lines'
export { bytesAt, capacity, lengthsAt, regionBytes, unitsAt } from './region'

/** Makes this instance work with the tables at `header`, in the region at `region`, which is all zeros and which nobody else writes. */
export function start(header: usize, region: usize): void {
  readTables(header)
  place(region)
  startCache(piecesAt)
  startCache(partsAt)
}

/** Address of the first id; `encodeLines` puts ids and rows one behind the other until `forget`. */
export function idsAt(): usize {
  return firstId()
}

export function forget(): void {
  rewind(firstId())
  startRows()
}

/** Encodes the first `count` units; returns the number of ids, which stand from `freeAt` on, or -1 when it is left to the host. */
export function encodeUnits(count: i32): i32 {
  const first = out
  const isDone = encodeNormalized(unitsAt, unitsAt + (<usize>count << 1))
  const ids = <i32>((out - first) >> 2)
  rewind(first)
  return isDone ? ids : -1
}

/** Where the ids of `encodeUnits` stand. */
export function freeAt(): usize {
  return out
}
