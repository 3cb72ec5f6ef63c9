import { isPair, pairAt } from './encoding-buffers.ts'
import type { SharedArrays } from './shared-arrays.ts'
import type { TokenList } from './token-table.ts'

/** Tells where text can be cut before merging: between characters that no token holds next to each other. */
export interface Adjacency {
  add(left: number, right: number): void
  /** False when no token holds the two; true when one does, and in about one other case in a thousand. */
  mayMeet(left: number, right: number): boolean
}

/** 4 Mbit: about the size of a core's second-level cache. */
const words = 1 << 17

/** No pairs yet. */
export function createAdjacencyBits(arrays: SharedArrays): Int32Array {
  return arrays.ints(words)
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
export function characterAdjacency(tokens: TokenList, arrays: SharedArrays): CharacterAdjacency {
  const bits = createAdjacencyBits(arrays)
  const adjacency = createAdjacency(bits)
  const counts = new Int32Array(codePoints)
  const found: number[] = []
  eachMeeting(tokens, (left, right) => {
    if (counts[right] === 0) found.push(right)
    counts[right] = (counts[right] as number) + 1
    if (left >= 0) adjacency.add(left, right)
  })
  const numbers = arrays.bytes(codePoints)
  found.sort((a, b) => (counts[b] as number) - (counts[a] as number))
  found.slice(0, 255).forEach((codePoint, i) => {
    numbers[codePoint] = i + 1
  })
  const table = arrays.bytes(256 * 256)
  eachMeeting(tokens, (left, right) => {
    if (left >= 0) table[((numbers[left] as number) << 8) | (numbers[right] as number)] = 1
  })
  return { bits, numbers, table }
}

const codePoints = 0x110000

/** Calls `meet` for each character of each token, with the one before it; -1 before the first. */
function eachMeeting({ starts, pool }: TokenList, meet: (left: number, right: number) => void): void {
  let token = 0
  let left = -1
  for (let i = 0; i < pool.length; i++) {
    while ((starts[token] as number) <= i) {
      token++
      left = -1
    }
    const right = i + 1 < (starts[token] as number) && isPair(pool, i) ? pairAt(pool, i++) : (pool[i] as number)
    meet(left, right)
    left = right
  }
}

/** False when no token holds the two characters next to each other. */
export function characterMeeting({ bits, numbers, table }: CharacterAdjacency): Adjacency['mayMeet'] {
  const { mayMeet } = createAdjacency(bits)
  return (left, right) => {
    const [first, second] = [numbers[left] as number, numbers[right] as number]
    return first !== 0 && second !== 0 ? table[(first << 8) | second] === 1 : mayMeet(left, right)
  }
}
