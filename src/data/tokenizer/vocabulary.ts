import type { TableMemory } from './table-memory.ts'
import { createTokenFinder, indexTokens, listTokens, type TokenList, type TokenTable, unitsOf } from './token-table.ts'

/** Tokens with their ids, which are distinct. A map of tokens to ids is one. */
export interface TokenIds extends Iterable<readonly [token: string, id: number]> {
  readonly size: number
  get(token: string): number | undefined
  keys(): Iterable<string>
  values(): Iterable<number>
}

/** The tokens of a table, without a string for each until it is asked for. */
export interface Vocabulary extends TokenIds {
  readonly table: TokenTable
}

/** The tokens in their order; those of a table as they lie there. */
export function tokenList(tokens: TokenIds): TokenList {
  return 'table' in tokens ? (tokens as Vocabulary).table : listTokens([...tokens.keys()], [...tokens.values()])
}

/** A table of the tokens, which may be theirs already. */
export function tokenTable(tokens: TokenIds, memory?: TableMemory): TokenTable {
  return 'table' in tokens ? (tokens as Vocabulary).table : indexTokens(tokenList(tokens), memory)
}

/** The tokens of `table`, of which no two are equal. */
export function tableVocabulary(table: TokenTable): Vocabulary {
  const { starts, ids, pool } = table
  const find = createTokenFinder(table)
  const text = () => Buffer.from(pool.buffer, pool.byteOffset, pool.byteLength).toString('utf16le')
  function* keys(): Generator<string> {
    const all = text()
    for (let i = 0; i < ids.length; i++) yield all.slice(starts[i], starts[i + 1])
  }
  return {
    size: ids.length,
    table,
    get(token) {
      const id = find(unitsOf(token), 0, token.length)
      return id < 0 ? undefined : id
    },
    keys,
    values: () => ids,
    *[Symbol.iterator]() {
      let i = 0
      for (const token of keys()) yield [token, ids[i++] as number] as const
    },
  }
}
