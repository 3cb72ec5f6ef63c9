import { sharedInts, sharedUnits } from './shared-arrays.ts'

/** Tokens by the text they stand for. Plain numbers, which threads share. */
export interface TokenTable {
  /** An entry's number plus one; 0 is an empty slot. */
  readonly slots: Int32Array
  /** Where each entry's text starts in the pool; one more at the end. */
  readonly starts: Int32Array
  readonly ids: Int32Array
  readonly pool: Uint16Array
  /** Length of the longest text in code units. */
  readonly longest: number
}

/** Id of the token whose text is the units from `start` to `end`, or -1; no string is made. */
export type TokenFinder = (units: Uint16Array, start: number, end: number) => number

/** Tokens one after another, as they lie in a table. */
export type TokenList = Pick<TokenTable, 'starts' | 'ids' | 'pool'>

/** A list of these texts. */
export function listTokens(texts: readonly string[], ids: ArrayLike<number>): TokenList {
  const starts = new Int32Array(texts.length + 1)
  for (const [entry, { length }] of texts.entries()) starts[entry + 1] = (starts[entry] as number) + length
  const pool = new Uint16Array(starts[texts.length] as number)
  Buffer.from(pool.buffer).write(texts.join(''), 'utf16le')
  return { starts, pool, ids: Int32Array.from(ids) }
}

/** A table of copies of these: open addressing over the pool of code units. Of equal texts the first is found. */
export function indexTokens(tokens: TokenList): TokenTable {
  const [starts, ids] = [sharedInts(tokens.starts.length), sharedInts(tokens.ids.length)]
  const pool = sharedUnits(tokens.pool.length)
  starts.set(tokens.starts)
  ids.set(tokens.ids)
  pool.set(tokens.pool)
  const capacity = 1 << Math.max(4, Math.ceil(Math.log2(ids.length * 2 + 1)))
  const slots = sharedInts(capacity)
  let longest = 0
  for (let entry = 0; entry < ids.length; entry++) {
    const [start, end] = [starts[entry] as number, starts[entry + 1] as number]
    if (end - start > longest) longest = end - start
    let slot = hashUnits(pool, start, end) & (capacity - 1)
    while (slots[slot] !== 0) slot = (slot + 1) & (capacity - 1)
    slots[slot] = entry + 1
  }
  return { slots, starts, ids, pool, longest }
}

export function createTokenFinder({ slots, starts, ids, pool, longest }: TokenTable): TokenFinder {
  const mask = slots.length - 1
  return (units, start, end) => {
    const length = end - start
    if (length > longest) return -1
    let slot = hashUnits(units, start, end) & mask
    for (;;) {
      const entry = (slots[slot] as number) - 1
      if (entry < 0) return -1
      const key = starts[entry] as number
      if ((starts[entry + 1] as number) - key === length) {
        let i = 0
        while (i < length && pool[key + i] === units[start + i]) i++
        if (i === length) return ids[entry] as number
      }
      slot = (slot + 1) & mask
    }
  }
}

/** A hash of the code units from `start` to `end`, well mixed in its low bits. */
export function hashUnits(units: Uint16Array, start: number, end: number): number {
  let hash = end - start
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (units[i] as number), 0x9e3779b1)
  return hash ^ (hash >>> 15)
}

/** The code units of a text. */
export function unitsOf(text: string): Uint16Array {
  return Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i))
}
