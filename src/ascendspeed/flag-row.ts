import { type Generation, generations } from './generations.ts'

/** What follows a flag: nothing, one value of a type, or one or more words. */
export type FlagType = 'switch' | 'integer' | 'number' | 'text' | 'words'

/**
 * Flags that the generations `since` to `until`, both included, accept: names without dashes, separated by blanks,
 * each with a mark for what follows it: none for a switch, `#` an integer, `%` a number, `=` text, `*` words.
 */
export interface FlagRow {
  readonly since: Generation
  readonly until: Generation
  readonly flags: string
}

const marks: Readonly<Record<string, FlagType>> = { '#': 'integer', '%': 'number', '=': 'text', '*': 'words' }

/** The flags of `rows` that `generation` accepts, `--lr` with its type, say. */
export function readFlagRows(rows: readonly FlagRow[], generation: Generation): ReadonlyMap<string, FlagType> {
  const at = generations.indexOf(generation)
  const applying = rows.filter(
    ({ since, until }) => generations.indexOf(since) <= at && at <= generations.indexOf(until),
  )
  return new Map(
    applying
      .flatMap(({ flags }) => flags.trim().split(/\s+/))
      .map(flag => {
        const type = marks[flag.slice(-1)]
        return [`--${type ? flag.slice(0, -1) : flag}`, type ?? 'switch']
      }),
  )
}
