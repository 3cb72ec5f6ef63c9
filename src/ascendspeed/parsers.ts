import { type FlagRow, type FlagType, readFlagRows } from './flag-row.ts'
import type { Generation } from './generations.ts'
import { toolFlags } from './tool-flags.ts'
import { trainingFlags } from './training-flags.ts'

/** The parsers whose flags are known. Those of a converter's plug-ins add to `convert`. */
export type ParserName = 'train' | keyof typeof toolFlags

/** The flags that `parsers` of one generation accept together. */
export function acceptedFlags(generation: Generation, parsers: readonly ParserName[]): ReadonlyMap<string, FlagType> {
  const rows = parsers.flatMap((parser): readonly FlagRow[] => (parser === 'train' ? trainingFlags : toolFlags[parser]))
  return readFlagRows(rows, generation)
}
