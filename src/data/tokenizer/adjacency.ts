/** Tells where text can be cut before merging: between characters that no token holds next to each other. */
export interface Adjacency {
  add(left: number, right: number): void
  /** False when no token holds the two; true when one does, and in about one other case in a thousand. */
  mayMeet(left: number, right: number): boolean
}

/** 4 Mbit: about the size of a core's second-level cache. */
const words = 1 << 17

/**
 * A blocked Bloom filter over pairs of keys. Sound because merging only ever makes tokens: if no token contains the
 * adjacency, no merge crosses it, and the two sides can be merged apart. A false "may meet" only costs time.
 */
export function createAdjacency(): Adjacency {
  const bits = new Int32Array(words)
  const hash = (left: number, right: number) => {
    const mixed = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b)
    return mixed ^ (mixed >>> 15)
  }
  const mask = (mixed: number) => (1 << (mixed & 31)) | (1 << ((mixed >>> 5) & 31))
  return {
    add(left, right) {
      const mixed = hash(left, right)
      const word = (mixed >>> 10) & (words - 1)
      bits[word] = (bits[word] as number) | mask(mixed)
    },
    mayMeet(left, right) {
      const mixed = hash(left, right)
      const wanted = mask(mixed)
      return ((bits[(mixed >>> 10) & (words - 1)] as number) & wanted) === wanted
    },
  }
}

/**
 * Adjacency of characters, with an exact table of 64 KiB for the 255 characters that tokens hold most often: in most
 * text nearly every pair is of these, and the table stays in the core's first-level cache.
 */
export function characterAdjacency(tokens: Iterable<string>): (left: number, right: number) => boolean {
  const adjacency = createAdjacency()
  const pairs = new Set<number>()
  const counts = new Map<number, number>()
  for (const token of tokens) {
    let previous = -1
    for (const character of token) {
      const codePoint = character.codePointAt(0) as number
      counts.set(codePoint, (counts.get(codePoint) ?? 0) + 1)
      if (previous >= 0) {
        adjacency.add(previous, codePoint)
        pairs.add(previous * 0x110000 + codePoint)
      }
      previous = codePoint
    }
  }
  // Number 0 is every other character.
  const numbers = new Uint8Array(0x110000)
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 255)
  frequent.forEach(([codePoint], i) => {
    numbers[codePoint] = i + 1
  })
  const table = new Uint8Array(256 * 256)
  for (const [left] of frequent) {
    for (const [right] of frequent) {
      if (pairs.has(left * 0x110000 + right)) table[((numbers[left] as number) << 8) | (numbers[right] as number)] = 1
    }
  }
  return (left, right) => {
    const [first, second] = [numbers[left] as number, numbers[right] as number]
    return first !== 0 && second !== 0 ? table[(first << 8) | second] === 1 : adjacency.mayMeet(left, right)
  }
}
