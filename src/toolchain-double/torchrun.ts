import { spawn } from 'node:child_process'
import { constants, hostname } from 'node:os'
import { join } from 'node:path'
import { pythonTime } from './python-time.ts'
import type { Tool } from './tool.ts'

/**
 * `torchrun`, with one process a node that stands for all its ranks. Gives the exit status: 1 when that process fails,
 * however it did, after the table that torch 2.1 prints. Source: torch/distributed/elastic/multiprocessing/errors.
 */
export async function torchrun(tool: Tool, words: readonly string[]): Promise<number> {
  const { options, rest } = readOptions(words)
  const [script, ...args] = rest
  if (script === undefined || options === undefined) {
    tool.printError('usage: torchrun [-h] [--nnodes NNODES] [--nproc-per-node NPROC_PER_NODE] training_script ...')
    tool.printError(
      options === undefined
        ? `torchrun: error: unrecognized arguments: ${words[0]}`
        : 'torchrun: error: the following arguments are required: training_script, training_script_args',
    )
    return 2
  }
  const [ranks, nodes, node] = [options.nproc_per_node ?? '1', options.nnodes ?? '1', options.node_rank ?? '0']
  const rank = Number(node) * Number(ranks)
  const python = join(tool.tree, 'bin', 'python')
  const child = spawn(python, ['-u', script, ...args], {
    stdio: 'inherit',
    env: {
      ...tool.env,
      ...{ RANK: String(rank), LOCAL_RANK: '0', GROUP_RANK: node, GROUP_WORLD_SIZE: nodes, LOCAL_WORLD_SIZE: ranks },
      WORLD_SIZE: String(Number(ranks) * Number(nodes)),
      ...{ MASTER_ADDR: options.master_addr ?? '127.0.0.1', MASTER_PORT: options.master_port ?? '29500' },
      TORCHELASTIC_RUN_ID: 'none',
    },
  })
  let stoppedBy: NodeJS.Signals | undefined
  tool.onTerminate(by => {
    stoppedBy = by
    child.kill(by)
  })
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(resolve => {
    child.on('exit', (code, by) => resolve([code, by]))
    child.on('error', () => resolve([127, null]))
  })
  if (stoppedBy) {
    const got = `Process ${tool.pid} got signal: ${constants.signals[stoppedBy]}`
    tool.printError('Traceback (most recent call last):')
    tool.printError(`torch.distributed.elastic.multiprocessing.api.SignalException: ${got}`)
    return 1
  }
  if (status === 0) return 0
  const number = signal === null ? (status ?? 1) : -constants.signals[signal]
  const pid = child.pid ?? 0
  const logger = (name: string, text: string) =>
    tool.printError(
      `[${pythonTime(' ', 'ms').slice(0, 23).replace('.', ',')}] torch.distributed.elastic.${name}: ${text}`,
    )
  logger('multiprocessing.api', `[ERROR] failed (exitcode: ${number}) local_rank: 0 (pid: ${pid}) of binary: ${python}`)
  for (const line of failureTable({ script, rank, number, pid, signal })) tool.printError(line)
  return 1
}

interface Failure {
  readonly script: string
  readonly rank: number
  readonly number: number
  readonly pid: number
  readonly signal: NodeJS.Signals | null
}

function failureTable({ script, rank, number, pid, signal }: Failure): readonly string[] {
  const [border, section] = ['='.repeat(60), '-'.repeat(60)]
  const why =
    signal === null
      ? 'To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html'
      : `Signal ${-number} (${signal}) received by PID ${pid}`
  return [
    'Traceback (most recent call last):',
    '  File "torchrun", line 8, in <module>',
    '    sys.exit(main())',
    'torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ',
    ...[border, `${script} FAILED`, section, 'Failures:', '  <NO_OTHER_FAILURES>', section],
    ...[
      'Root Cause (first observed failure):',
      '[0]:',
      `  time      : ${pythonTime('_')}`,
      `  host      : ${hostname()}`,
    ],
    `  rank      : ${rank} (local_rank: 0)`,
    `  exitcode  : ${number} (pid: ${pid})`,
    '  error_file: <N/A>',
    `  traceback : ${why}`,
    border,
  ]
}

const known = ['nproc_per_node', 'nnodes', 'node_rank', 'master_addr', 'master_port'] as const

function readOptions(words: readonly string[]): {
  readonly options: Readonly<Partial<Record<(typeof known)[number], string>>> | undefined
  readonly rest: readonly string[]
} {
  const options: Record<string, string> = {}
  let at = 0
  while (words[at]?.startsWith('--')) {
    const [flag = '', joined] = words[at]!.slice(2).split('=')
    const name = known.find(one => one === flag.replaceAll('-', '_'))
    if (!name) return { options: undefined, rest: words.slice(at) }
    options[name] = joined ?? words[at + 1] ?? ''
    at += joined === undefined ? 2 : 1
  }
  return { options, rest: words.slice(at) }
}
