import type { FlagType } from '../ascendspeed/flag-row.ts'
import { type FlagWords, splitFlags } from '../ascendspeed/flag-words.ts'

export interface ArgparseOptions {
  /** What usage and errors call the program. */
  readonly program: string
  readonly accepted: ReadonlyMap<string, FlagType>
  readonly required?: readonly string[]
  readonly choices?: Readonly<Record<string, readonly string[]>>
  /** Whether the start of a flag's name will do; argparse's default. */
  readonly abbreviations?: boolean
}

/** Flags with the words after each, by name without dashes; a switch has none. */
export type ParsedFlags = ReadonlyMap<string, readonly string[]>

/** argparse's way to say no: usage, then one line; status 2. */
export class ArgparseError extends Error {
  constructor({ program, accepted }: ArgparseOptions, message: string) {
    super([...usage(program, accepted), `${program}: error: ${message}`].join('\n'))
  }
}

/**
 * Reads a command line as Python's argparse does with these flags; the last of a name wins.
 * @throws ArgparseError with argparse's own words, and the first thing that it would complain of.
 */
export function parseFlags(argv: readonly string[], options: ArgparseOptions): ParsedFlags {
  const parsed = new Map<string, readonly string[]>()
  const first = argv.findIndex(isFlag)
  const unknown: string[] = argv.slice(0, first < 0 ? argv.length : first)
  for (const given of splitFlags(argv)) {
    const { flag, values } = { flag: fullName(given.flag, options), values: given.values.map(String) }
    const type = options.accepted.get(flag)
    if (type === undefined) unknown.push(given.flag, ...values)
    else {
      const taken = takenWords({ flag, values }, type, options)
      parsed.set(flag.slice(2), values.slice(0, taken))
      unknown.push(...values.slice(taken))
    }
  }
  const missing = (options.required ?? []).filter(name => !parsed.has(name)).map(name => `--${name}`)
  if (missing.length > 0)
    throw new ArgparseError(options, `the following arguments are required: ${missing.join(', ')}`)
  if (unknown.length > 0) throw new ArgparseError(options, `unrecognized arguments: ${unknown.join(' ')}`)
  return parsed
}

const isFlag = (word: string) => word.startsWith('--') && word.length > 2

function fullName(flag: string, options: ArgparseOptions): string {
  if (!options.abbreviations || options.accepted.has(flag)) return flag
  const meant = [...options.accepted.keys()].filter(known => known.startsWith(flag))
  if (meant.length > 1) throw new ArgparseError(options, `ambiguous option: ${flag} could match ${meant.join(', ')}`)
  return meant[0] ?? flag
}

/** How many of the words after a flag are its own. */
function takenWords({ flag, values }: FlagWords, type: FlagType, options: ArgparseOptions): number {
  const refuse = (message: string) => {
    throw new ArgparseError(options, `argument ${flag}: ${message}`)
  }
  if (type === 'switch') return 0
  if (values.length === 0) refuse(type === 'words' ? 'expected at least one argument' : 'expected one argument')
  const value = String(values[0])
  if (type === 'integer' && !/^\s*[+-]?\d+\s*$/.test(value)) refuse(`invalid int value: '${value}'`)
  if (type === 'number' && !/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(value))
    refuse(`invalid float value: '${value}'`)
  const choices = options.choices?.[flag.slice(2)]
  if (choices && !choices.includes(value))
    refuse(`invalid choice: '${value}' (choose from ${choices.map(choice => `'${choice}'`).join(', ')})`)
  return type === 'words' ? values.length : 1
}

/** `usage: NAME [-h] [--flag FLAG] …`, broken as argparse breaks it for a terminal of 80 columns. */
function usage(program: string, accepted: ReadonlyMap<string, FlagType>): string[] {
  const head = `usage: ${program} `
  const indent = ' '.repeat(head.length)
  const lines = [`${head}[-h]`]
  for (const [flag, type] of accepted) {
    const name = flag.slice(2).toUpperCase().replaceAll('-', '_')
    const after = type === 'switch' ? '' : type === 'words' ? ` ${name} [${name} ...]` : ` ${name}`
    const part = `[${flag}${after}]`
    if (lines.at(-1)!.length + part.length + 1 > 78) lines.push(`${indent}${part}`)
    else lines.push(`${lines.pop()} ${part}`)
  }
  return lines
}
