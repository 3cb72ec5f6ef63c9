import { FormatError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import type { TokenIds } from './vocabulary.ts'

/** An added token as a file describes it; its id follows from the vocabulary. */
export type AddedTokenSpec = Omit<AddedToken, 'id'>

/** Gives added tokens their ids: the vocabulary's where it has them, else the next free ones, in order. */
export function assignIds(specs: readonly AddedTokenSpec[], vocab: TokenIds): AddedToken[] {
  const byContent = new Map<string, AddedToken>()
  let nextId = vocab.size
  for (const spec of specs) {
    if (spec.content === '') continue
    const known = byContent.get(spec.content)?.id ?? vocab.get(spec.content)
    byContent.set(spec.content, { ...spec, id: known ?? nextId })
    if (known === undefined) nextId++
  }
  return [...byContent.values()]
}

/** The added tokens of `tokenizer.json`. @throws FormatError when one is no token, or has another id than it must. */
export function readAddedTokens(list: unknown, { vocab, file }: { vocab: TokenIds; file: string }): AddedTokenSpec[] {
  if (list === undefined || list === null) return []
  if (!Array.isArray(list) || list.length > maxAddedTokens) {
    throw new FormatError({
      file,
      expected: `added_tokens, a list of at most ${maxAddedTokens}`,
      found: `${JSON.stringify(list)}`.slice(0, 60),
    })
  }
  const specs = list.map((item: unknown, i) => {
    const spec = readAddedToken(item)
    if (!spec)
      throw new FormatError({
        file,
        expected: `a token in added_tokens[${i}]`,
        found: `${JSON.stringify(item)}`.slice(0, 60),
      })
    return spec
  })
  const ids = new Map(assignIds(specs, vocab).map(({ content, id }) => [content, id]))
  for (const { content, id } of list as { content: string; id: number }[]) {
    if (ids.get(content) !== id) {
      throw new FormatError({
        file,
        expected: `id ${ids.get(content)} for the added token ${content}, the next free one`,
        found: `${id}`,
      })
    }
  }
  return specs
}

/** More than any published tokenizer adds, many times over. */
const maxAddedTokens = 1 << 17

/** A token as Hugging Face files write one, or undefined when it is none. */
export function readAddedToken(item: unknown): AddedTokenSpec | undefined {
  if (typeof item !== 'object' || item === null) return undefined
  const { content, single_word, lstrip, rstrip, normalized, special } = item as Record<string, unknown>
  if (typeof content !== 'string') return undefined
  return {
    content,
    singleWord: single_word === true,
    lstrip: lstrip === true,
    rstrip: rstrip === true,
    normalized: normalized === undefined ? special !== true : normalized === true,
    special: special === true,
  }
}
