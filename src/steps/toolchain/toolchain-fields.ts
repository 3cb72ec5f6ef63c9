import { relative, sep } from 'node:path'
import { z } from 'zod'
import { withExtraArgs } from '../../ascendspeed/extra-arguments.ts'
import { generationFacts } from '../../ascendspeed/generations.ts'
import { packagedCommand } from '../../ascendspeed/packaged-command.ts'
import { Toolchain, type ToolchainCommand } from '../../ascendspeed/toolchain.ts'
import { withToolkitEnvironment } from '../../ascendspeed/toolkit-environment.ts'
import { InputError } from '../../errors.ts'
import type { Known } from '../../flow/call.ts'
import type { Launch, Word } from '../../flow/launch.ts'

const path = z.string().min(1)

/** What the four steps take alike, to be carried out by the toolchain as a job. */
export const toolchainFields = {
  /** The checkout that does the work, `ascendSpeed({ dir })`; default: this library itself. */
  toolchain: Toolchain.optional(),
  /** Further arguments of the toolchain's program; one that contradicts what the call says is refused by name. */
  extraArgs: z
    .array(z.union([z.string(), z.number(), z.strictObject({ read: path }), z.strictObject({ write: path })]))
    .readonly()
    .optional(),
}

export type ToolchainFields = z.output<z.ZodObject<typeof toolchainFields>>

/**
 * What is to be said of a call about the toolchain. `command` makes the call's command from what is known, so that what
 * the toolchain cannot do is refused before anything runs; it gives undefined while too little is known.
 * @throws InputError for `extraArgs` without a toolchain, and for those that `checkExtraArgs` refuses.
 */
export function toolchainFacts(
  { toolchain, extraArgs }: Known<ToolchainFields>,
  command: (toolchain: Toolchain) => ToolchainCommand | undefined,
): readonly string[] {
  if (!toolchain?.generation || !toolchain.dir) {
    if (extraArgs === undefined) return []
    throw new InputError('extraArgs are arguments of the toolchain, and none is named.', {
      ...{ field: 'extraArgs', hint: 'Name one: toolchain: ascendSpeed({ dir }).' },
    })
  }
  const { generation, dir, scripts } = toolchain
  const made = command({ generation, dir })
  // What is known of it was given whole: it takes no ref.
  if (made) toolchainLaunch(made, { toolchain: toolchain as Toolchain, extraArgs })
  return [`${generationFacts[generation].title}${scripts ? `, packaged scripts of ${scripts.model}` : ''}`]
}

/**
 * The job that a command of the toolchain is.
 * @throws InputError as `checkExtraArgs` does, and for extra arguments of packaged scripts, which take none.
 */
export function toolchainLaunch(
  command: ToolchainCommand,
  { toolchain: { scripts }, extraArgs = [] }: ToolchainFields & { readonly toolchain: Toolchain },
): Launch {
  if (scripts && extraArgs.length > 0) throw new InputError('extraArgs: the packaged scripts take no arguments.')
  const launch = scripts ? packagedCommand(command, scripts) : withExtraArgs(command, extraArgs)
  const { dir } = command
  const { argv, env = {}, nodes, devicesPerNode } = launch
  return withToolkitEnvironment({ argv: argv.map(word => fromCheckout(word, dir)), env, dir, nodes, devicesPerNode })
}

/** The checkout is where the job runs, maybe nowhere else: what lies in it is no file to be brought along. */
function fromCheckout(word: Word, dir: string): Word {
  if (typeof word !== 'object' || !('read' in word)) return word
  if (word.read === dir) return dir
  return word.read.startsWith(dir + sep) ? relative(dir, word.read) : word
}
