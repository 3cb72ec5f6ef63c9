import { createTableMemory } from './table-memory.ts'

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
  /** Of equal texts the first is found. */
  readonly areDistinct: boolean
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

/** A table of these, or of copies of them, in `memory`: open addressing over the pool of code units. */
export function indexTokens(tokens: TokenList, memory = createTableMemory()): TokenTable {
  const [starts, ids, pool] = [memory.place(tokens.starts), memory.place(tokens.ids), memory.place(tokens.pool)]
  const slots = memory.ints(slotCount(ids.length))
  const { kernel } = memory
  const places = [pool.byteOffset, starts.byteOffset, ids.length, slots.byteOffset, slots.length - 1] as const
  const areDistinct = kernel.indexTokens(...places) !== 0
  let longest = 0
  for (let entry = 0; entry < ids.length; entry++) {
    const length = (starts[entry + 1] as number) - (starts[entry] as number)
    if (length > longest) longest = length
  }
  return { slots, starts, ids, pool, longest, areDistinct }
}

/** A power of two, so that at least half of the slots are empty. */
function slotCount(tokens: number): number {
  return 1 << Math.max(4, Math.ceil(Math.log2(tokens * 2 + 1)))
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
