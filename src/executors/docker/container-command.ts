import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { InputError } from '../../errors.ts'
import { isSecretName, type Launch, resolveWords } from '../../flow/launch.ts'
import { masterPort } from '../master-port.ts'
import { type Mount, mountsOf } from './mounts.ts'

export interface DockerOptions {
  /** Image with a `/bin/sh` and what the jobs run; its own entry point is not used. */
  readonly image: string
  /** NPUs of this machine; absent: unknown, and layouts are not checked against it. */
  readonly devicesPerNode?: number
  /** Numbers of the NPUs that jobs may use, of which each takes the first it needs; default 0, 1, 2, … */
  readonly devices?: readonly number[]
  /** `bridge` (default), `host`, or a network of yours. */
  readonly network?: string
  /** Size of `/dev/shm` as docker writes it; default `60g`, as in the DevServer guide. */
  readonly shmSize?: string
  /** Beyond what a launch reads and writes: a checkout, a file system that links lead to. Same path inside. */
  readonly mounts?: readonly Mount[]
  /** Environment of every job; a launch's own `env` comes last. */
  readonly env?: Readonly<Record<string, string>>
  /** User and group inside, as `uid:gid`; default the image's. */
  readonly user?: string
  /** A small init as process 1, which passes signals on and collects orphans; default true. */
  readonly init?: boolean
  /** Leaves ended containers for a look inside; default false: they go once their output is kept. */
  readonly keep?: boolean
  /** Time between TERM and KILL when a job is cancelled, in ms, rounded up to seconds; default 10,000. */
  readonly killAfterMs?: number
  /** The docker client, or one that takes the same arguments; default `docker`. */
  readonly client?: string
}

/** What makes a container of a launch: arguments of the docker client, and what it finds in its own environment. */
export interface ContainerCommand {
  readonly args: readonly string[]
  /** Values of the variables that `args` names without a value, so that no list of processes shows them. */
  readonly env: Readonly<Record<string, string>>
  readonly mounts: readonly Mount[]
}

/**
 * Drivers and tools of a node that its containers need, with the places where they are known to be.
 * Source: the DevServer guide's `docker run`; npu-smi lies in sbin on Lite clusters, DCMI and hccn.conf where present.
 */
const nodePaths = [
  '/usr/local/Ascend/driver',
  '/usr/local/bin/npu-smi',
  '/usr/local/sbin/npu-smi',
  '/usr/local/dcmi',
  '/etc/ascend_install.info',
  '/etc/hccn.conf',
  '/etc/localtime',
  '/sys/fs/cgroup',
]
const managementDevices = ['/dev/davinci_manager', '/dev/devmm_svm', '/dev/hisi_hdc']

/**
 * The `docker create` of a launch. Environment values do not appear in it, except those of variables that the client
 * itself would obey.
 * @throws InputError for more NPUs than `devices` has, a variable that is no name, or a path that cannot be mounted.
 */
export function containerCommand(launch: Launch, options: DockerOptions, name: string): ContainerCommand {
  const port = options.network === 'host' ? masterPort(name) : 29_500
  const place = { rank: 0, count: 1, masterAddr: '127.0.0.1', masterPort: port }
  const words = resolveWords(launch.argv, place, path => resolve(path))
  const needsNpus = launch.devicesPerNode > 0
  const mounts = mountsOf(launch, [
    ...(options.mounts ?? []),
    ...(needsNpus ? nodePaths.filter(existsSync).map(path => ({ path, readOnly: true })) : []),
  ])
  const env = { ...options.env, ...launch.env }
  const devices = needsNpus ? [...managementDevices, ...npus(launch, options).map(n => `/dev/davinci${n}`)] : []
  // One stream keeps the order of lines; and the shell tells of a missing folder, which docker would make.
  const command = ['/bin/sh', '-c', 'exec 2>&1; cd -- "$0" && exec "$@"', launch.dir ?? '.', ...words]
  return {
    args: [
      'create',
      ...['--name', name, '--label', `ascendflow.job=${name}`],
      ...(options.init === false ? [] : ['--init']),
      ...['--network', options.network ?? 'bridge', '--shm-size', options.shmSize ?? '60g'],
      // Another driver may not give its lines back, and a rotated log would lose them.
      ...['--log-driver', 'json-file', '--log-opt', 'max-size=1t'],
      ...(options.user === undefined ? [] : ['--user', options.user]),
      ...devices.flatMap(device => ['--device', device]),
      ...mounts.flatMap(mount => ['--mount', mountWord(mount)]),
      ...Object.entries(env).flatMap(([name, value]) => ['--env', variableWord(name, value)]),
      ...['--entrypoint', command[0]!, options.image, ...command.slice(1)],
    ],
    env: Object.fromEntries(Object.entries(env).filter(([name]) => !steersClient(name))),
    mounts,
  }
}

function npus({ devicesPerNode }: Launch, { devices }: DockerOptions): readonly number[] {
  const known = devices ?? Array.from({ length: devicesPerNode }, (_, n) => n)
  if (known.length < devicesPerNode)
    throw new InputError(`docker: the job needs ${devicesPerNode} NPUs, and devices has ${known.length}.`)
  return known.slice(0, devicesPerNode)
}

/** Values of `--mount` are a line of CSV. */
function mountWord({ path, readOnly }: Mount): string {
  const field = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)
  return ['type=bind', field(`source=${path}`), field(`target=${path}`), ...(readOnly ? ['readonly'] : [])].join(',')
}

function variableWord(name: string, value: string): string {
  if (!/^[A-Za-z_]\w*$/.test(name))
    throw new InputError(`docker: ${JSON.stringify(name)} is no name of an environment variable.`)
  return steersClient(name) ? `${name}=${value}` : name
}

/** Variables that would change what the docker client does, were they in its environment. */
function steersClient(name: string): boolean {
  return /^(PATH|HOME|TMPDIR|LD_\w+|DOCKER_\w+|BUILDKIT_\w+|\w+_PROXY)$/i.test(name) && !isSecretName(name)
}
