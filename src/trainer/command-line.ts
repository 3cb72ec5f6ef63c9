import { parseArgs } from 'node:util'
import { InputError, UnsupportedError } from '../errors.ts'
import { type FlagType, fixedFlags, readFlags, refusedFlags, statedFlags } from './flags.ts'

type Values = { switch: true; integer: number; number: number; text: string; words: readonly string[] }

/** Values of the flags that were given, by their names without dashes. */
export type FlagValues = { readonly [name in keyof typeof readFlags]?: Values[(typeof readFlags)[name]] }

const types: Readonly<Record<string, FlagType>> = {
  ...readFlags,
  ...statedFlags,
  ...Object.fromEntries(Object.keys(fixedFlags).map(name => [name, 'text' as const])),
  ...Object.fromEntries(Object.entries(refusedFlags).map(([name, [type]]) => [name, type])),
}

/**
 * Reads Megatron's command line: `--flag`, `--flag value`, `--flag=value` and `--flag one two …`; the last of a name wins.
 *
 * @throws InputError on an unknown flag (with the nearest known name), a missing or a malformed value.
 * @throws UnsupportedError on a flag, or a value of one, that asks for something the embedded trainer cannot do.
 */
export function readCommandLine(argv: readonly string[]): FlagValues {
  const { values } = parseArgs({
    args: joinValues(argv),
    options: Object.fromEntries(
      Object.entries(types).map(([name, type]) =>
        type === 'switch'
          ? [name, { type: 'boolean' as const }]
          : [name, { type: 'string' as const, multiple: type === 'words' }],
      ),
    ),
    strict: true,
  })
  const read: Record<string, Values[FlagType]> = {}
  for (const [name, given] of Object.entries(values)) {
    const value = typedValue(name, given as true | string | readonly string[])
    if (refusedFlags[name])
      throw new UnsupportedError(`--${name} asks for ${refusedFlags[name][1]}, which the embedded trainer cannot do.`)
    const only = fixedFlags[name]
    if (only !== undefined && value !== only && Number(value) !== Number(only)) {
      throw new UnsupportedError(`--${name} ${value}: the embedded trainer can do ${only} alone.`)
    }
    if (name in readFlags) read[name] = value
  }
  return read as FlagValues
}

/** Ties every value to its flag with `=`, so that negative numbers and lists are no guess. */
function joinValues(argv: readonly string[]): string[] {
  const given = new Map<string, readonly string[]>()
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string
    const [, name, equals] = /^--([^=]+)(=)?/s.exec(word) ?? []
    if (name === undefined) {
      throw new InputError(`Argument ${i + 1} is "${word}", where a flag such as --train-iters was expected.`)
    }
    const type = Object.hasOwn(types, name) ? types[name] : undefined
    if (type === undefined) {
      throw new InputError(`--${name} is not an argument of the embedded trainer.`, {
        hint: `Is --${nearest(name)} meant?`,
      })
    }
    if (type === 'switch' && equals) throw new InputError(`--${name} takes no value.`)
    if (type === 'switch' || equals) {
      given.set(name, [word])
      continue
    }
    const first = i + 1
    while (i + 1 < argv.length && !argv[i + 1]?.startsWith('--') && (type === 'words' || i + 1 === first)) i++
    if (i < first) throw new InputError(`--${name} needs ${type === 'words' ? 'at least one value' : 'a value'}.`)
    given.set(
      name,
      argv.slice(first, i + 1).map(value => `--${name}=${value}`),
    )
  }
  return [...given.values()].flat()
}

function typedValue(name: string, given: true | string | readonly string[]): Values[FlagType] {
  const type = types[name]
  if (typeof given !== 'string' || type === 'text') return given
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(given) ? Number(given) : Number.NaN
  if (type === 'integer' ? !Number.isSafeInteger(number) : !Number.isFinite(number)) {
    throw new InputError(`--${name} ${given}: expected ${type === 'integer' ? 'a whole number' : 'a number'}.`)
  }
  return number
}

function nearest(name: string): string {
  const known = Object.keys(types)
  const distances = known.map(candidate => editDistance(name, candidate))
  return known[distances.indexOf(Math.min(...distances))] as string
}

/** Letters to insert, delete or replace between two words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
