// The part of the memory that one thread writes: lines going in, units of one text, ids coming out, caches, scratch.

/** Most bytes of lines, and units of a text, that are taken at a time. */
export const capacity: i32 = 2 << 20
/** Most symbols that are merged here; a longer run of text without a cut is left to the host. */
export const mostSymbols: i32 = 512
/** Units before the text's first that a prefix may take. */
const prefixRoom: usize = 64
const cacheBytes: usize = (1 << 20) + (6 << 20) + 128

export let bytesAt: usize = 0
export let unitsAt: usize = 0
export let lengthsAt: usize = 0
export let symbolsAt: usize = 0
export let ranksAt: usize = 0
export let resultsAt: usize = 0
export let piecesAt: usize = 0
export let partsAt: usize = 0
export let pairsAt: usize = 0
let idsAt: usize = 0
let idsEnd: usize = 0
/** Where the next id goes. */
export let out: usize = 0

/** A line gives at most an id a byte, and a few around it. */
const idsBytes: usize = 4 * (<usize>capacity + (1 << 20))
/** For what is put around a text when the room for ids is used up. */
const slackBytes: usize = 64

export function regionBytes(): usize {
  return place(0)
}

/** Lays out a region, of which the first byte is `at`; returns where it ends. */
export function place(at: usize): usize {
  bytesAt = at
  unitsAt = bytesAt + capacity + 128 + 2 * prefixRoom
  lengthsAt = unitsAt + 2 * <usize>capacity + 128
  symbolsAt = lengthsAt + 2 * <usize>capacity
  ranksAt = symbolsAt + 4 * <usize>(mostSymbols + 4)
  resultsAt = ranksAt + 4 * <usize>(mostSymbols + 4)
  pairsAt = resultsAt + 4 * <usize>(mostSymbols + 4)
  piecesAt = pairsAt + (8 << 14)
  partsAt = piecesAt + cacheBytes
  idsAt = partsAt + cacheBytes
  idsEnd = idsAt + idsBytes
  out = idsAt
  return idsEnd + slackBytes
}

export function firstId(): usize {
  return idsAt
}

export function idsLeft(): i32 {
  return <i32>((idsEnd - out) >> 2)
}

// @ts-ignore: decorator
@inline
export function push(id: i32): void {
  store<i32>(out, id)
  out += 4
}

export function rewind(to: usize): void {
  out = to
}
