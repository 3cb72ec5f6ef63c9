import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { PromptTemplate } from './prompt-templates.ts'

/** A tokenizer as a prompt template wants it. */
export interface TemplateTokenizer extends Pick<Tokenizer, 'vocabSize' | 'bosId' | 'eosId' | 'padId'> {
  readonly eosId: number
  readonly padId: number
  /** Ids of a piece of text, without bos and eos. */
  encode(text: string): Int32Array
  /** The id of a special token, undefined when there is none. */
  idOf(token: string): number | undefined
}

/**
 * Adds the template's stop words to a tokenizer that lacks them, and makes the first one its eos where the template
 * says so. Ids of added tokens follow the vocabulary.
 *
 * Source: ModelLink, templates.py, `fix_model_tokenizer`.
 */
export function createTemplateTokenizer(
  tokenizer: Tokenizer,
  { stopWords, replaceEos }: PromptTemplate,
): TemplateTokenizer {
  const added = new Map<string, number>()
  const known = (token: string) => {
    const ids = tokenizer.encode(token, { addSpecialTokens: false })
    return ids.length === 1 && tokenizer.decode(ids) === token ? ids[0] : undefined
  }
  const ids = new Map<string, number | undefined>()
  const idOf = (token: string) => {
    if (!ids.has(token)) ids.set(token, known(token))
    return ids.get(token)
  }
  const ensure = (token: string) => {
    const id = idOf(token) ?? tokenizer.vocabSize + added.size
    if (idOf(token) === undefined) added.set(token, id)
    ids.set(token, id)
    return id
  }
  const [first] = stopWords
  const newEos = replaceEos ? first : undefined
  const eosId = newEos === undefined ? (tokenizer.eosId ?? ensure('<|endoftext|>')) : ensure(newEos)
  for (const word of stopWords) ensure(word)

  const plain = (text: string) => tokenizer.encode(text, { addSpecialTokens: false })
  const { bosId, padId = eosId } = tokenizer
  const facts = { ...(bosId === undefined ? {} : { bosId }), eosId, padId, vocabSize: tokenizer.vocabSize + added.size }
  if (added.size === 0) return { ...facts, idOf, encode: plain }

  // What follows a token is encoded behind one: some tokenizers treat the start of a text in another way.
  const anchor = [tokenizer.bosId, tokenizer.eosId, tokenizer.padId]
    .map(id => (id === undefined ? '' : tokenizer.decode([id])))
    .find(token => token !== '' && known(token) !== undefined)
  const further = (text: string) => (anchor === undefined ? plain(text) : plain(anchor + text).subarray(1))
  const pattern = new RegExp(`(${[...added.keys()].map(escapePattern).join('|')})`)
  return {
    ...facts,
    idOf,
    encode(text) {
      // Every other part is an added token.
      const parts = text.split(pattern).map((part, i) => {
        if (i % 2 === 1) return Int32Array.of(added.get(part) ?? 0)
        return part === '' ? new Int32Array() : i === 0 ? plain(part) : further(part)
      })
      return concatIds(parts)
    },
  }
}

const escapePattern = (text: string) => text.replace(/[|\\{}()[\]^$+*?.]/g, '\\$&')

/** All ids in one array. */
export function concatIds(parts: readonly ArrayLike<number>[]): Int32Array {
  const all = new Int32Array(parts.reduce((length, part) => length + part.length, 0))
  let length = 0
  for (const part of parts) {
    all.set(part, length)
    length += part.length
  }
  return all
}
