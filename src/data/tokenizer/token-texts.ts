import { sharedInts, sharedUnits } from './shared-arrays.ts'

/** The text of each id. Plain numbers, which threads share. */
export interface TokenTexts {
  /** Where the text of an id starts in the pool, and where it ends. */
  readonly starts: Int32Array
  readonly ends: Int32Array
  readonly pool: Uint16Array
}

/** Of two texts of one id the later counts. */
export function createTokenTexts(tokens: readonly (readonly [text: string, id: number])[]): TokenTexts {
  const highest = tokens.reduce((max, [, id]) => Math.max(max, id), -1)
  const [starts, ends] = [sharedInts(highest + 1), sharedInts(highest + 1)]
  let length = 0
  for (const [text, id] of tokens) {
    starts[id] = length
    length += text.length
    ends[id] = length
  }
  const pool = sharedUnits(length)
  Buffer.from(pool.buffer).write(tokens.map(([text]) => text).join(''), 'utf16le')
  return { starts, ends, pool }
}

/** Text of an id; empty where there is none. */
export function textOf({ starts, ends, pool }: TokenTexts, id: number): string {
  const [start = 0, end = 0] = [starts[id], ends[id]]
  return Buffer.from(pool.buffer, 2 * start, 2 * (end - start)).toString('utf16le')
}
