import { FormatError } from '../../errors.ts'

/** A BPE model, checked: every merge joins known tokens into a known token. */
export interface BpeModel {
  readonly file: string
  /** Token to id; ids are distinct. */
  readonly vocab: ReadonlyMap<string, number>
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
  const entries = typeof vocab === 'object' && vocab !== null && !Array.isArray(vocab) ? Object.entries(vocab) : []
  if (entries.length === 0 || entries.length > limits.tokens) {
    throw new FormatError({
      file,
      expected: `model.vocab with 1 to ${limits.tokens} tokens`,
      found: `${entries.length}`,
    })
  }
  const tokens = new Map<string, number>()
  const owners = new Map<number, string>()
  for (const [token, id] of entries) {
    if (!isId(id))
      throw new FormatError({ file, expected: `an id for token ${quote(token)}`, found: JSON.stringify(id) })
    const owner = owners.get(id)
    if (owner !== undefined) {
      throw new FormatError({
        file,
        expected: 'ids that no two tokens share',
        found: `${id} for ${quote(owner)} and ${quote(token)}`,
      })
    }
    owners.set(id, token)
    tokens.set(token, id)
  }
  return tokens
}

/** True for a whole number that can be a token's id. */
export function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < limits.id
}

/** The merges of `model.merges`: `"a b"` or `["a", "b"]` each. @throws FormatError where one names a missing token. */
export function readMerges(
  merges: unknown,
  { vocab, file }: { vocab: ReadonlyMap<string, number>; file: string },
): BpeModel['merges'] {
  if (!Array.isArray(merges) || merges.length > limits.merges) {
    const found = Array.isArray(merges) ? `${merges.length}` : typeof merges
    throw new FormatError({ file, expected: `model.merges, a list of at most ${limits.merges}`, found })
  }
  const pairs = new Int32Array(3 * merges.length)
  merges.forEach((merge: unknown, rank) => {
    const [left, right] = splitMerge(merge, { rank, file })
    ;[left, right, left + right].forEach((token, part) => {
      const id = vocab.get(token)
      if (id === undefined) {
        throw new FormatError({
          file,
          expected: `tokens of the vocabulary in merge ${rank}`,
          found: `${quote(token)}, which is none`,
        })
      }
      pairs[3 * rank + part] = id
    })
  })
  return { count: merges.length, pairs }
}

function splitMerge(merge: unknown, { rank, file }: { rank: number; file: string }): readonly [string, string] {
  const parts: unknown[] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : []
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
