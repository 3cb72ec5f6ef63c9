/** Numbers that are the same in every run: mulberry32. */
export function seededRandom(seed: number): {
  /** From 0 to below 1. */
  readonly next: () => number
  readonly whole: (from: number, to: number) => number
} {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return { next, whole: (from, to) => from + Math.floor(next() * (to - from + 1)) }
}
