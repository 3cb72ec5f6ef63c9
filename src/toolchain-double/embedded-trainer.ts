import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Readable } from 'node:stream'
import { iterationFolder, trackerPath } from '../checkpoint/megatron-folder.ts'
import { programPath } from '../program-path.ts'
import { readFlags } from '../trainer/flags.ts'
import type { ParsedFlags } from './argparse.ts'
import type { Loaded } from './checkpoint-loading.ts'
import { scratchFolder, type Tool } from './tool.ts'

/** The trainer at work. */
export interface EmbeddedTrainer {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  /** Folder that it saves in, which is this run's own. */
  readonly save: string
}

/**
 * Starts the embedded trainer with those of the flags that it acts on. It saves in a folder of its own, so that it goes
 * on from another checkpoint only where the toolchain would.
 */
export async function startTrainer(
  tool: Tool,
  { flags, loaded }: { readonly flags: ParsedFlags; readonly loaded: Exclude<Loaded, { status: number }> },
): Promise<EmbeddedTrainer> {
  const save = scratchFolder(tool)
  await mkdir(save, { recursive: true })
  if (loaded.state !== undefined) {
    await symlink(loaded.state, join(save, iterationFolder(loaded.iteration)))
    await writeFile(trackerPath(save), /\d+/.exec(basename(loaded.state))![0])
  }
  const ignored = new Set(['save', 'threads', 'numerics', ...(loaded.state === undefined ? [] : ['lora-load'])])
  const words = [...flags]
    .filter(([name]) => name in readFlags && !ignored.has(name))
    .flatMap(([name, values]) => [`--${name}`, ...values])
  const argv = [programPath('trainer'), ...words, ...(flags.has('save') ? ['--save', save] : []), '--threads', '1']
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  return { child, save }
}
