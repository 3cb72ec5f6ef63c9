import { InputError } from '../errors.ts'
import { isSecretName, type Launch, type Word } from '../flow/launch.ts'
import { wordText } from './flag-words.ts'
import { quote, type ShellWord, shellCommand } from './shell-words.ts'
import { setEnvPath } from './toolkit-environment.ts'

/** One piece of work, to be printed as a script of its own. */
export interface ShellWork {
  /** Part of the script's name: `train-7b`, say. */
  readonly name: string
  readonly launch: Launch
  /** The folder to run in; default the launch's, else where the script is called. */
  readonly dir?: string | undefined
  /** Commands that come first, one after another: making folders, copying what will be written into. */
  readonly before?: readonly (readonly Word[])[] | undefined
  /** Lines of comment at its head. */
  readonly about?: readonly string[] | undefined
}

/** A script, ready to be written to a file. */
export interface ShellScript {
  /** Name of the file, numbered in the order of the work. */
  readonly name: string
  readonly text: string
}

/**
 * Readable shell scripts of launches, in the style of the vendor's packaged ones: environment, then variables named
 * as there (`TP`, `MBS`, `SEQ_LEN`, …), then the command with one flag a line. The first script runs the others.
 *
 * Every word is quoted by one function, so that bash gives each program exactly the words of its launch. What differs
 * from node to node is taken from `NODE_RANK`, `NNODES`, `MASTER_ADDR` and `MASTER_PORT`. Values of environment
 * variables whose names speak of secrets are not written; the script asks for them.
 * @throws InputError for a word that no shell can pass on, and for a name that is no environment variable's.
 */
export function shellScripts(works: readonly ShellWork[]): readonly ShellScript[] {
  const scripts = works.map((work, i) => ({ name: `${i + 1}_${fileName(work.name)}.sh`, text: scriptText(work) }))
  return [{ name: '0_run_all.sh', text: runAll(works, scripts) }, ...scripts]
}

function runAll(works: readonly ShellWork[], scripts: readonly ShellScript[]): string {
  return lines([
    '#!/bin/bash',
    '# Runs the scripts beside this one, each after the one before it has succeeded.',
    ...(works.some(({ launch }) => launch.nodes > 1)
      ? ['# Those that name more than one node are to be started on every node, with its own NODE_RANK.']
      : []),
    'set -eo pipefail',
    'cd "$(dirname "$0")"',
    ...scripts.map(({ name }) => `bash ./${name}`),
  ])
}

function scriptText({ name, launch, dir, before = [], about = [] }: ShellWork): string {
  const { argv, env = {}, nodes, devicesPerNode } = launch
  const { variables, words } = shellCommand(argv)
  const folder = dir ?? launch.dir
  return lines([
    '#!/bin/bash',
    ...[name, ...about, ...(nodes > 1 ? [`On ${nodes} nodes of ${devicesPerNode} devices each.`] : [])].map(comment),
    'set -eo pipefail',
    `if [ -f ${setEnvPath} ]; then source ${setEnvPath}; fi`,
    ...Object.entries(env).map(environmentLine),
    ...(argv.some(word => typeof word === 'object' && 'node' in word) ? ['', ...nodeLines(nodes)] : []),
    ...(variables.length > 0 ? ['', ...variables.map(([variable, value]) => `${variable}=${value}`)] : []),
    '',
    ...(folder === undefined ? [] : [`cd ${quote(folder)}`]),
    ...before.map(command => command.map(word => quote(wordText(word))).join(' ')),
    ...commandLines(words),
  ])
}

const nodeLines = (nodes: number) => [
  `NNODES="\${NNODES:-${nodes}}"`,
  `NODE_RANK="\${NODE_RANK:-0}"`,
  `MASTER_ADDR="\${MASTER_ADDR:-localhost}"`,
  `MASTER_PORT="\${MASTER_PORT:-6000}"`,
]

/** The command with a line for each flag. */
function commandLines(words: readonly ShellWord[]): readonly string[] {
  const rows: string[][] = [[]]
  for (const { text, startsLine } of words) {
    if (startsLine && rows.at(-1)!.length > 0) rows.push([])
    rows.at(-1)!.push(text)
  }
  return rows.map((row, i) => `${i === 0 ? '' : '  '}${row.join(' ')}${i === rows.length - 1 ? '' : ' \\'}`)
}

function environmentLine([name, value]: readonly [string, string]): string {
  if (!/^[A-Za-z_]\w*$/.test(name)) throw new InputError(`${name} is no name of an environment variable.`)
  return isSecretName(name) ? `export ${name}="\${${name}:?}"` : `export ${name}=${quote(value)}`
}

const comment = (text: string) => `# ${text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ')}`
const fileName = (name: string) => name.replaceAll(/[^\w.-]+/g, '_').slice(0, 100)
const lines = (all: readonly string[]) => `${all.join('\n')}\n`
