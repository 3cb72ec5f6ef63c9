import { sharedBytes, sharedInts } from './shared-arrays.ts'

/** Tells where text can be cut before merging: between characters that no token holds next to each other. */
export interface Adjacency {
  add(left: number, right: number): void
  /** False when no token holds the two; true when one does, and in about one other case in a thousand. */
  mayMeet(left: number, right: number): boolean
}

/** 4 Mbit: about the size of a core's second-level cache. */
const words = 1 << 17

/** No pairs yet. Threads can share them. */
export function createAdjacencyBits(): Int32Array {
  return sharedInts(words)
}

/**
 * A blocked Bloom filter over pairs of keys. Sound because merging only ever makes tokens: if no token contains the
 * adjacency, no merge crosses it, and the two sides can be merged apart. A false "may meet" only costs time.
 */
export function createAdjacency(bits: Int32Array): Adjacency {
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

/** Adjacency of characters as plain numbers, which threads share. */
export interface CharacterAdjacency {
  readonly bits: Int32Array
  /** Number of each code point; 0 is every character that is not frequent. */
  readonly numbers: Uint8Array
  /** 1 where a token holds the characters of these two numbers next to each other. */
  readonly table: Uint8Array
}

/**
 * Adjacency of characters, with an exact table of 64 KiB for the 255 characters that tokens hold most often: in most
 * text nearly every pair is of these, and the table stays in the core's first-level cache.
 */
export function characterAdjacency(tokens: Iterable<string>): CharacterAdjacency {
  const bits = createAdjacencyBits()
  const adjacency = createAdjacency(bits)
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
  const numbers = sharedBytes(0x110000)
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 255)
  frequent.forEach(([codePoint], i) => {
    numbers[codePoint] = i + 1
  })
  const table = sharedBytes(256 * 256)
  for (const [left] of frequent) {
    for (const [right] of frequent) {
      if (pairs.has(left * 0x110000 + right)) table[((numbers[left] as number) << 8) | (numbers[right] as number)] = 1
    }
  }
  return { bits, numbers, table }
}

/** False when no token holds the two characters next to each other. */
export function characterMeeting({ bits, numbers, table }: CharacterAdjacency): Adjacency['mayMeet'] {
  const { mayMeet } = createAdjacency(bits)
  return (left, right) => {
    const [first, second] = [numbers[left] as number, numbers[right] as number]
    return first !== 0 && second !== 0 ? table[(first << 8) | second] === 1 : mayMeet(left, right)
  }
}
