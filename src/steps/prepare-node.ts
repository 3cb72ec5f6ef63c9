import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { JobError } from '../errors.ts'
import { defineStep } from '../flow/step.ts'
import { nodeReport } from '../nodes/node-checks.ts'
import { NodeReport } from '../nodes/node-report.ts'
import { probeScript } from '../nodes/probe-script.ts'
import { readProbe } from '../nodes/read-probe.ts'

/** A word that cannot be taken for an option of the command that it is given to. */
const plainWord = z.string().regex(/^[^-\s]\S*$/, 'a word without blanks that does not begin with -')
const nodePath = z.string().regex(/^\//, 'an absolute path, as the nodes see it')

/** What the guides' toolchain runs on. */
const usualPackages = ['torch', 'torch_npu', 'transformers', 'sentencepiece', 'accelerate', 'peft']

const PrepareNodeInput = z.object({
  /** Nodes to look at, by an executor that has as many. */
  nodes: z.number().int().min(1).default(1),
  /** NPUs that a job needs free on each; default 0: their state is told, none is needed. */
  devicesPerNode: z.number().int().min(0).default(0),
  /** Image that containers are to be started from; its absence is a failure. */
  image: plainWord.optional(),
  /** Network of the containers, which decides how the metadata address is kept from them. */
  network: z.enum(['bridge', 'host']).default('bridge'),
  /** User of containers on the host's network, for a rule that holds for them alone; not root. */
  containerUid: z.number().int().min(1).optional(),
  /** Whether several people use the containers: then an open metadata address is a failure, not a warning. */
  isMultiUser: z.boolean().default(false),
  /** What `fix` installs for docker; EulerOS on ARM has docker-engine.aarch64 and its kin. */
  dockerPackages: z.array(plainWord).min(1).default(['docker']),
  /** Folders and the GiB that have to be free in each. */
  disks: z.array(z.object({ path: nodePath, freeGb: z.number().min(0) })).default([]),
  /** Folder that all nodes share: each writes there and looks for what the others wrote. */
  shared: nodePath.optional(),
  /** Checkout of the toolchain. */
  toolchain: nodePath.optional(),
  python: plainWord.default('python3'),
  /** Packages that have to be there; default those of the toolchain where one is named. */
  pythonPackages: z.array(plainWord).optional(),
  /** Put right what a command can put right; needs an administrator's rights on the nodes. */
  fix: z.boolean().default(false),
  /** `report`: end well, whatever was found. */
  onFail: z.enum(['stop', 'report']).default('stop'),
  /** A result is good for this day; default today (UTC), so that nodes are looked at again tomorrow. */
  asOf: z.string().default(() => new Date().toISOString().slice(0, 10)),
})

/** What was found on the nodes, in the order of their ranks. */
export type PreparedNodes = z.infer<typeof PreparedNodes>
export const PreparedNodes = z.object({ nodes: z.array(NodeReport) })

/**
 * Looks at the nodes of its executor before a job needs them: NPUs (free, busy, healthy), driver, docker, image,
 * ip_forward, the metadata address, disks, the shared folder, clocks, toolchain and Python packages. Changes nothing
 * unless `fix: true`.
 *
 * A job that needs no NPU: a shell script, which wants no more than a POSIX system. On an executor of containers it sees
 * the container, not the node.
 * @throws JobError naming what failed and what to do, unless `onFail: 'report'`.
 */
export const prepareNode = defineStep({
  name: 'prepareNode',
  version: 1,
  input: PrepareNodeInput,
  output: PreparedNodes,
  summarize: ({ nodes }) => nodes.map(summary),
}).job({
  launch: (input, { workDir }) => ({
    argv: [
      ...['sh', '-c', probeScript(wantedOf(input), input), 'prepare-node'],
      ...[{ write: join(workDir, 'nodes') }, { node: 'rank' } as const, { node: 'count' } as const],
    ],
    nodes: input.nodes,
    devicesPerNode: 0,
  }),
  async collect(input, { workDir, log }) {
    const wanted = wantedOf(input)
    const nodes: NodeReport[] = []
    for (let rank = 0; rank < input.nodes; rank++) {
      const file = join(workDir, 'nodes', `node-${rank}.txt`)
      const content = await readFile(file, 'utf8').catch(cause => {
        throw failure(`Node ${rank} left no report.`, 'Is the store in a folder that the node writes to?', cause)
      })
      nodes.push(nodeReport(readProbe(file, content), { rank, wanted, now: Date.now() / 1000 }))
    }
    for (const { host, checks } of nodes)
      for (const { name, state, seen } of checks) log(`${host}  ${state.padEnd(4)}  ${name}: ${seen}`)
    const failed = nodes.flatMap(({ host, checks }) =>
      checks.filter(check => check.state === 'fail').map(check => ({ host, ...check })),
    )
    if (failed.length > 0 && input.onFail === 'stop')
      throw failure(
        failed.map(({ host, name, seen }) => `${host}: ${name}: ${seen}.`).join(' '),
        [...new Set(failed.map(({ advice }) => advice).filter(Boolean))].join(' '),
      )
    return { nodes }
  },
})

function wantedOf({ pythonPackages, ...input }: z.output<typeof PrepareNodeInput>) {
  return { ...input, pythonPackages: pythonPackages ?? (input.toolchain === undefined ? [] : usualPackages) }
}

function summary({ host, devices, checks }: NodeReport): string {
  const count = (state: string) => checks.filter(check => check.state === state).length
  const free = devices.filter(device => device.isFree).length
  const npus = devices.length === 0 ? 'no NPU' : `${free} of ${devices.length} NPUs free`
  return [`${host}: ${npus}`, `${count('ok')} ok`, `${count('warn')} warn`, `${count('fail')} fail`].join(', ')
}

function failure(message: string, hint: string, cause?: unknown): JobError {
  return new JobError(message, {
    ...{ executor: 'prepareNode', job: 'prepareNode', retryable: false, logTail: [], hint, cause },
  })
}
