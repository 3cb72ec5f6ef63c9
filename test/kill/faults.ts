// Each fault of the toolchain's double, in each of its programs that can have it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ascendSpeed, corpus, type FailureKind, hfModel, hfToMegatron, preprocess, type Ref } from 'ascendflow'
import { makeToolchainDouble, type ToolchainFaultKind, toolchainFaults } from 'ascendflow/testing'
import { begin, golden, jobsIn, toolchainOf, training } from './place.ts'

type Program = (typeof toolchainFaults)[ToolchainFaultKind][number]

/** The kind that it must be told as, and whether the next try goes on; undefined: the job ends well. */
type Told = readonly [FailureKind, again: boolean] | undefined

const inTraining: Readonly<Partial<Record<ToolchainFaultKind, Told>>> = {
  'argparse-error': ['config', false],
  'import-error': ['config', false],
  auth: ['auth', false],
  'host-oom': ['host-oom', true],
  'disk-full': ['disk-full', false],
  'hang-at-start': ['hang', true],
  'hang-in-training': ['hang', true],
  'hang-in-save': ['hang', true],
  'early-exit': ['unknown', true],
  'device-busy': ['capacity', true],
  'hccl-connect-timeout': ['hccl-timeout', true],
  'hccl-exec-timeout': ['hccl-timeout', true],
  'unreadable-checkpoint': ['data', false],
  'invalid-tracker': ['data', false],
  // Loaded only when a training goes on, so that another failure comes first.
  'no-optimizer-state': ['config', false],
  'bad-data-index': ['data', false],
  'device-oom': ['device-oom', false],
  'device-fault': ['device-fault', true],
  // The launcher of the only node is killed: on one machine nothing tells that from a want of memory.
  'lost-node': ['host-oom', true],
  'nan-loss': ['diverged', false],
  'nan-iterations': ['diverged', false],
  'skipped-iterations': undefined,
  'loss-spike': undefined,
  // Lies: exit code 0, and a checkpoint that is not whole.
  'torn-tracker': ['unknown', true],
  'torn-rank': ['unknown', true],
  'torn-zip': ['unknown', true],
}

/** A tool that hangs is stopped after an hour of silence, which tests of the watch look at with a clock of their own. */
const inTools: Readonly<Partial<Record<ToolchainFaultKind, Told>>> = {
  'argparse-error': ['config', false],
  'import-error': ['config', false],
  auth: ['auth', false],
  'host-oom': ['host-oom', true],
  'disk-full': ['disk-full', false],
  'early-exit': ['unknown', true],
  // The loader ends with 0 although the saver died.
  'saver-failure': ['unknown', true],
}

/** Injects all of them; gives how many were not told, retried and proved as they must be. */
export async function faults(dir: string): Promise<number> {
  let wrong = 0
  let number = 0
  for (const [kind, told] of Object.entries(inTraining) as [ToolchainFaultKind, Told][])
    wrong += await inject(dir, { kind, told, program: 'train', target: training(dir, ++number) })
  for (const program of ['preprocess', 'convert'] as const)
    for (const [kind, told] of Object.entries(inTools) as [ToolchainFaultKind, Told][])
      if ((toolchainFaults[kind] as readonly Program[]).includes(program))
        wrong += await inject(dir, { kind, told, program, target: tool(dir, program, ++number) })
  const seen = new Set([...Object.keys(inTraining), ...Object.keys(inTools)])
  const missing = Object.keys(toolchainFaults).filter(kind => !seen.has(kind))
  console.log(
    `${seen.size} of ${Object.keys(toolchainFaults).length} faults${missing.length > 0 ? `, not ${missing}` : ''}`,
  )
  return wrong + missing.length
}

interface Injection {
  readonly kind: ToolchainFaultKind
  readonly told: Told
  readonly program: Program
  readonly target: Ref<{ readonly path: string }>
}

async function inject(dir: string, { kind, told, program, target }: Injection): Promise<number> {
  const double = await makeToolchainDouble(toolchainOf(dir), { generation: 'modellink-1.1' })
  if (kind === 'no-optimizer-state') await double.inject({ kind: 'host-oom', at: 12 })
  await double.inject(program === 'train' ? { kind, at: 12 } : { kind })
  const before = jobsIn(dir, program)
  const { kinds, warnings, done } = begin(dir, target)
  const output = await done.catch((error: Error) => error)
  const runs = jobsIn(dir, program) - before
  const isWell = !(output instanceof Error)
  const isProved = program !== 'train' || !isWell || existsSync(join(output.path, 'iter_0000014'))
  const asExpected =
    told === undefined
      ? isWell && runs === 1 && warnings.length > 0
      : kinds.at(-1) === told[0] && isWell === told[1] && runs === kinds.length + (told[1] ? 1 : 0)
  const isRight = asExpected && isProved
  console.log(
    `${isRight ? 'ok   ' : 'WRONG'} ${program}: ${kind}: ${kinds.join(', ') || warnings.join(', ')}; ${runs} jobs; ${isWell ? 'ends well' : 'fails'}`,
  )
  if (!isRight && !isWell) console.log(output.message)
  return isRight ? 0 : 1
}

/** A job of one of the other programs, another for each number. */
function tool(dir: string, program: 'preprocess' | 'convert', number: number) {
  const model = hfModel(join(dir, 'model'))
  const toolchain = ascendSpeed({ dir: toolchainOf(dir) })
  const options = { name: `${program}-${number}`, retryDelayMs: 1 }
  // What differs between them changes nothing that is looked at here.
  if (program === 'convert')
    return hfToMegatron({ model, toolchain, extraArgs: ['--max-queue-size', 100 + number] }, options)
  const rows = corpus(join(golden, 'data.jsonl'))
  return preprocess({ corpus: rows, tokenizer: model, workers: 1, toolchain, seqLength: 1_000 + number }, options)
}
