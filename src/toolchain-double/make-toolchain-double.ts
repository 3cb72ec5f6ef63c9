import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join, resolve } from 'node:path'
import { type Generation, generationFacts } from '../ascendspeed/generations.ts'
import { ascendSpeed, type Toolchain } from '../ascendspeed/toolchain.ts'
import { quoteWord } from '../flow/launch.ts'
import { programPath } from '../program-path.ts'
import { layDownFaults, type ToolchainFault, type ToolProgram } from './faults.ts'

/** One process of a double's programs, noted when it started. */
export interface ToolchainRun {
  readonly program: ToolProgram
  /** The script, and what it was called with. */
  readonly argv: readonly string[]
  /** Node of a training, from 0. */
  readonly node: number
  readonly pid: number
}

/** A checkout that runs without Python and NPUs. */
export interface ToolchainDouble {
  /** What `ascendSpeed` makes of it. */
  readonly toolchain: Toolchain
  /** Folder with `python`, `python3` and `torchrun`. */
  readonly bin: string
  /** `bin` before the given PATH, for executors: `local({ env: double.env(path) })`. */
  env(path?: string): { readonly PATH: string }
  /**
   * Has things go wrong in runs to come, all `faults` in one; those that were injected before come first. A fault
   * waits for a program that can have it.
   * @throws InputError for faults that no program has together.
   */
  inject(
    faults: ToolchainFault | readonly ToolchainFault[],
    options?: {
      /** Runs that have them; default 1. */
      readonly times?: number
      /** Node of a training; default the first, or the last one for a lost node. */
      readonly node?: number
    },
  ): Promise<void>
  /** All processes so far, one for each node of a training. */
  runs(): Promise<readonly ToolchainRun[]>
}

/**
 * Writes a double of the toolchain into `dir`: the folders and entry points of a checkout, and programs to run them.
 *
 * They take exactly the flags of the generation, do the work with this package's native engines and embedded trainer,
 * print what the real ones print, write the files that the real ones write, and fail as the real ones fail. See
 * docs/testing.md.
 * @throws InputError for faults that no program has together.
 */
export async function makeToolchainDouble(
  dir: string,
  { generation, faults = [] }: { readonly generation: Generation; readonly faults?: readonly ToolchainFault[] },
): Promise<ToolchainDouble> {
  const tree = resolve(dir)
  const { title, marker, preprocess, convert, pretrain, finetune } = generationFacts[generation]
  const isFolder = marker === 'mindspeed_llm'
  for (const entry of new Set([preprocess, convert, pretrain, finetune, isFolder ? `${marker}/__init__.py` : marker]))
    await write(join(tree, entry), `# ${title}, a double: run it with bin/python.\n`)
  const bin = join(tree, 'bin')
  for (const name of ['python', 'python3', 'torchrun']) {
    const words = [process.execPath, programPath('toolchain-double'), tree, name === 'torchrun' ? name : 'python']
    await write(join(bin, name), `#!/bin/sh\nexec ${words.map(quoteWord).join(' ')} "$@"\n`)
    await chmod(join(bin, name), 0o755)
  }
  const log = join(tree, '.double', 'runs.jsonl')
  await write(log, '')
  const double: ToolchainDouble = {
    toolchain: ascendSpeed({ dir: tree }),
    bin,
    env: (path = '/usr/local/bin:/usr/bin:/bin') => ({ PATH: `${bin}${delimiter}${path}` }),
    inject: (given, { times = 1, node } = {}) =>
      layDownFaults(tree, { faults: [given].flat(), ...(node !== undefined && { node }) }, times),
    runs: async () =>
      (await readFile(log, 'utf8'))
        .split('\n')
        .filter(Boolean)
        .map(line => JSON.parse(line)),
  }
  for (const fault of faults) await double.inject(fault)
  return double
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}
