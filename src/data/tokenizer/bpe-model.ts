import { FormatError } from '../../errors.ts'
import type { TableMemory } from './table-memory.ts'
import { createTokenFinder } from './token-table.ts'
import { type TokenIds, tokenTable } from './vocabulary.ts'

/** A BPE model, checked: every merge joins known tokens into a known token. */
export interface BpeModel {
  readonly file: string
  /** Where its tables are made. */
  readonly memory: TableMemory
  /** Token to id; ids are distinct. */
  readonly vocab: TokenIds
  readonly merges: {
    readonly count: number
    /** left, right, result, merge after merge. */
    readonly pairs: Int32Array
    /** Order of each merge, the lower the earlier; of equal ones the leftmost. Absent: the order of `pairs`. */
    readonly ranks?: Int32Array
  }
  /** Characters that are parts of tokens but none themselves, by ids from `firstId` on: unknown where they stay apart. */
  readonly partial?: { readonly firstId: number; readonly codePoints: readonly number[] }
  /** What stands for a character that is in no token; absent: such a character vanishes. */
  readonly unkToken?: string | undefined
  /** Whether a run of such characters becomes one unknown token. */
  readonly fuseUnk: boolean
  /** Whether such a character becomes its UTF-8 bytes, `<0xE4><0xBD><0xA0>`, where all of these are tokens. */
  readonly byteFallback: boolean
  /** Whether a piece that is a token as a whole is that token, whatever the merges say. */
  readonly ignoreMerges: boolean
}

/** More than any published tokenizer has, four times over; a file that claims more is refused before tables are made. */
export const limits = { tokens: 1 << 20, merges: 1 << 22, id: 1 << 24, tokenLength: 512 }

/** The vocabulary of `model.vocab`. @throws FormatError at the first token that is not a string with an id of its own. */
export function readVocabulary(vocab: unknown, file: string): Map<string, number> {
  const object = isRecord(vocab) ? vocab : {}
  const texts = Object.keys(object)
  if (texts.length === 0 || texts.length > limits.tokens) {
    throw new FormatError({ file, expected: `model.vocab with 1 to ${limits.tokens} tokens`, found: `${texts.length}` })
  }
  const tokens = new Map<string, number>()
  const taken = new Uint8Array(limits.id)
  for (const token of texts) {
    const id = object[token]
    if (!isId(id))
      throw new FormatError({ file, expected: `an id for token ${quote(token)}`, found: JSON.stringify(id) })
    if (taken[id] === 1) {
      const owner = texts.find(other => object[other] === id) ?? ''
      const found = `${id} for ${quote(owner)} and ${quote(token)}`
      throw new FormatError({ file, expected: 'ids that no two tokens share', found })
    }
    taken[id] = 1
    tokens.set(token, id)
  }
  return tokens
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** True for a whole number that can be a token's id. */
export function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < limits.id
}

/** The merges of `model.merges`: `"a b"` or `["a", "b"]` each. @throws FormatError where one names a missing token. */
export function readMerges(merges: unknown, { vocab, file }: { vocab: TokenIds; file: string }): BpeModel['merges'] {
  if (!Array.isArray(merges) || merges.length > limits.merges) {
    const found = Array.isArray(merges) ? `${merges.length}` : typeof merges
    throw new FormatError({ file, expected: `model.merges, a list of at most ${limits.merges}`, found })
  }
  const find = createTokenFinder(tokenTable(vocab))
  const pairs = new Int32Array(3 * merges.length)
  // Left and right one behind the other: their units are those of the result.
  let units = new Uint16Array(2 * limits.tokenLength)
  for (let rank = 0; rank < merges.length; rank++) {
    const [left, right] = splitMerge(merges[rank], { rank, file })
    const length = left.length + right.length
    if (length > units.length) units = new Uint16Array(2 * length)
    for (let i = 0; i < left.length; i++) units[i] = left.charCodeAt(i)
    for (let i = 0; i < right.length; i++) units[left.length + i] = right.charCodeAt(i)
    const at = 3 * rank
    pairs[at] = find(units, 0, left.length)
    pairs[at + 1] = find(units, left.length, length)
    pairs[at + 2] = find(units, 0, length)
    for (let part = 0; part < 3; part++) {
      if ((pairs[at + part] as number) >= 0) continue
      const found = `${quote([left, right, left + right][part] ?? '')}, which is none`
      throw new FormatError({ file, expected: `tokens of the vocabulary in merge ${rank}`, found })
    }
  }
  return { count: merges.length, pairs }
}

function splitMerge(merge: unknown, { rank, file }: { rank: number; file: string }): readonly [string, string] {
  if (typeof merge === 'string') {
    const space = merge.indexOf(' ')
    if (space >= 0 && merge.indexOf(' ', space + 1) < 0) return [merge.slice(0, space), merge.slice(space + 1)]
  }
  const parts: unknown[] = Array.isArray(merge) ? merge : []
  const [left, right] = parts
  if (parts.length === 2 && typeof left === 'string' && typeof right === 'string') return [left, right]
  throw new FormatError({
    file,
    expected: `two tokens in merge ${rank}`,
    found: quote(JSON.stringify(merge) ?? 'nothing'),
  })
}

function quote(text: string): string {
  return text.length > 60 ? `"${text.slice(0, 60)}…"` : `"${text}"`
}
