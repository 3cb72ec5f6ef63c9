import { InputError } from '../errors.ts'
import type { Word } from '../flow/launch.ts'
import type { FlagType } from './flag-row.ts'

/** One flag of a command line with the words that follow it. */
export interface FlagWords {
  readonly flag: string
  readonly values: readonly Word[]
}

/**
 * Splits words into flags and what follows each; words before the first flag are left out. `--flag=value` is read as
 * argparse reads it.
 */
export function splitFlags(words: readonly Word[]): readonly FlagWords[] {
  const found: { flag: string; values: Word[] }[] = []
  for (const word of words) {
    if (typeof word === 'string' && word.startsWith('--') && word.length > 2) {
      const equals = word.indexOf('=')
      if (equals < 0) found.push({ flag: word, values: [] })
      else found.push({ flag: word.slice(0, equals), values: [word.slice(equals + 1)] })
    } else found.at(-1)?.values.push(word)
  }
  return found
}

/**
 * Checks that a flag is followed by what its parser wants.
 * @throws InputError with the flag, its words and what was expected.
 */
export function checkFlagWords({ flag, values }: FlagWords, type: FlagType): void {
  const texts = values.map(wordText)
  const expected = {
    switch: 'nothing after it',
    integer: 'one whole number',
    number: 'one number',
    text: 'one value',
    words: 'one or more values',
  }
  const holds = {
    switch: values.length === 0,
    integer: values.length === 1 && /^[+-]?\d+$/.test(texts[0]!),
    number: values.length === 1 && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(texts[0]!),
    text: values.length === 1,
    words: values.length > 0,
  }
  if (!holds[type]) throw new InputError(`${[flag, ...texts].join(' ')}: ${flag} takes ${expected[type]}.`)
}

/** A word as it is written, paths unmapped. */
export function wordText(word: Word): string {
  if (typeof word !== 'object') return String(word)
  return 'read' in word ? word.read : 'write' in word ? word.write : `{${word.node}}`
}
