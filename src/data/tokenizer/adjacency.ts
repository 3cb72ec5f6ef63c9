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
  const bits = new Uint32Array(words)
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
