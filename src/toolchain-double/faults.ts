import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { InputError } from '../errors.ts'

/** The programs of a checkout. */
export const toolPrograms = ['preprocess', 'convert', 'train'] as const
export type ToolProgram = (typeof toolPrograms)[number]

const [all, training] = [toolPrograms, ['train']] as const

/** What can go wrong, and in which programs. docs/testing.md says what each prints, leaves behind and ends with. */
export const toolchainFaults = {
  'argparse-error': all,
  'import-error': all,
  auth: all,
  'host-oom': all,
  'disk-full': all,
  'hang-at-start': all,
  'early-exit': all,
  'hang-in-save': ['convert', 'train'],
  'saver-failure': ['convert'],
  'device-busy': training,
  'hccl-connect-timeout': training,
  'unreadable-checkpoint': training,
  'invalid-tracker': training,
  'no-optimizer-state': training,
  'bad-data-index': training,
  'hang-in-training': training,
  'device-oom': training,
  'device-fault': training,
  'hccl-exec-timeout': training,
  'lost-node': training,
  'nan-loss': training,
  'nan-iterations': training,
  'skipped-iterations': training,
  'loss-spike': training,
  'torn-tracker': training,
  'torn-rank': training,
  'torn-zip': training,
} as const satisfies Record<string, readonly ToolProgram[]>

export type ToolchainFaultKind = keyof typeof toolchainFaults

/** One thing to go wrong. */
export interface ToolchainFault {
  readonly kind: ToolchainFaultKind
  /** Iteration from which on it may happen: with the first one printed, or saved, that is no less. Default 1. */
  readonly at?: number | undefined
}

/** Faults of one run, and where. */
interface FaultGroup {
  /** Node of a training that it happens on; default the first, or the last one for a lost node. */
  readonly node?: number | undefined
  readonly faults: readonly ToolchainFault[]
}

const FaultGroup: z.ZodType<FaultGroup> = z.strictObject({
  node: z.int().nonnegative().optional(),
  faults: z
    .array(
      z.strictObject({
        kind: z.enum(Object.keys(toolchainFaults) as [ToolchainFaultKind, ...ToolchainFaultKind[]]),
        at: z.int().positive().optional(),
      }),
    )
    .min(1),
})

const faultsFolder = (tree: string) => join(tree, '.double', 'faults')

/**
 * Lays down faults for `times` runs to come, behind those that wait already. A file each, so that processes that start
 * at the same time take one each.
 * @throws InputError for an unknown fault, and for faults that no program has together.
 */
export async function layDownFaults(tree: string, group: FaultGroup, times: number): Promise<void> {
  const parsed = FaultGroup.safeParse(group)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new InputError(`${JSON.stringify(group)} is no fault: ${issue?.path.join('.')}: ${issue?.message}.`)
  }
  if (!toolPrograms.some(program => fits(group, program)))
    throw new InputError(`No program has ${group.faults.map(({ kind }) => kind).join(' and ')} in one run.`)
  const folder = faultsFolder(tree)
  await mkdir(folder, { recursive: true })
  const waiting = await waitingFaults(folder)
  let number = waiting.length === 0 ? 0 : Number.parseInt(waiting.at(-1)!, 10)
  for (let i = 0; i < times; i++) {
    number += 1
    const path = join(folder, `${String(number).padStart(6, '0')}.json`)
    await writeFile(`${path}.new`, JSON.stringify(group))
    await rename(`${path}.new`, path)
  }
}

/** Takes the first faults that wait for this program and node; each is taken once. */
export async function takeFaults(
  tree: string,
  { program, node, nodes }: { readonly program: ToolProgram; readonly node: number; readonly nodes: number },
): Promise<readonly ToolchainFault[]> {
  const folder = faultsFolder(tree)
  for (const name of await waitingFaults(folder)) {
    const path = join(folder, name)
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text === undefined) continue
    const group = FaultGroup.parse(JSON.parse(text))
    const last = group.faults.some(({ kind }) => kind === 'lost-node')
    if (!fits(group, program) || (group.node ?? (last ? nodes - 1 : 0)) !== node) continue
    // Of two processes that found it, one can rename it.
    const mine = await rename(path, `${path}.taken`).then(
      () => true,
      () => false,
    )
    if (!mine) continue
    await rm(`${path}.taken`)
    return group.faults
  }
  return []
}

const fits = ({ faults }: FaultGroup, program: ToolProgram) =>
  faults.every(({ kind }) => (toolchainFaults[kind] as readonly ToolProgram[]).includes(program))

async function waitingFaults(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).filter(name => name.endsWith('.json')).sort()
}
