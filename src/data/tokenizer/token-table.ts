/** Tokens by the text they stand for, found from code units without making a string. */
export interface TokenTable {
  /** Id of the token whose text is the units from `start` to `end`, or -1. */
  find(units: Uint16Array, start: number, end: number): number
}

/** Open addressing over a pool of code units; a slot is an entry's number plus one, so that 0 is empty. */
export function createTokenTable(tokens: Iterable<readonly [text: string, id: number]>): TokenTable {
  const entries = [...tokens]
  const capacity = 1 << Math.max(4, Math.ceil(Math.log2(entries.length * 2 + 1)))
  const slots = new Int32Array(capacity)
  const starts = new Int32Array(entries.length + 1)
  const ids = Int32Array.from(entries, ([, id]) => id)
  const pool = new Uint16Array(entries.reduce((sum, [text]) => sum + text.length, 0))
  let longest = 0
  entries.forEach(([text], entry) => {
    const start = starts[entry] as number
    for (let i = 0; i < text.length; i++) pool[start + i] = text.charCodeAt(i)
    starts[entry + 1] = start + text.length
    longest = Math.max(longest, text.length)
    let slot = hashUnits(pool, start, start + text.length) & (capacity - 1)
    while (slots[slot] !== 0) slot = (slot + 1) & (capacity - 1)
    slots[slot] = entry + 1
  })
  return {
    find(units, start, end) {
      const length = end - start
      if (length > longest) return -1
      let slot = hashUnits(units, start, end) & (capacity - 1)
      for (;;) {
        const entry = (slots[slot] as number) - 1
        if (entry < 0) return -1
        const key = starts[entry] as number
        if ((starts[entry + 1] as number) - key === length) {
          let i = 0
          while (i < length && pool[key + i] === units[start + i]) i++
          if (i === length) return ids[entry] as number
        }
        slot = (slot + 1) & (capacity - 1)
      }
    },
  }
}

/** A hash of the code units from `start` to `end`, well mixed in its low bits. */
export function hashUnits(units: Uint16Array, start: number, end: number): number {
  let hash = end - start
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (units[i] as number), 0x9e3779b1)
  return hash ^ (hash >>> 15)
}
