import { posix } from 'node:path'
import { InputError } from '../../errors.ts'
import { isSecretName, type Launch, quoteWord, type Word } from '../../flow/launch.ts'
import { innermostMount } from '../innermost-mount.ts'

/** A folder of this machine that is also a volume of the job's containers. */
export interface ModelArtsMount {
  /** Path here: a mount of the same SFS Turbo share or bucket. */
  readonly local: string
  /** Path in the container; default: as here. */
  readonly at?: string
  /** SFS Turbo: `address:/path`, with the address that the network's link reports. */
  readonly nfs?: string
  /** A bucket or a folder of one: `/bucket/path`. */
  readonly obs?: string
  /** The same of a parallel file system. */
  readonly pfs?: string
  readonly readOnly?: boolean
}

/** Where a path of this machine is in the container. @throws InputError for a path on none of the volumes. */
export function pathInContainer(path: string, mounts: readonly ModelArtsMount[]): string {
  const found = innermostMount(path, mounts, mount => mount.local)
  if (found) return posix.join(found.mount.at ?? posix.resolve(found.mount.local), found.within)
  throw new InputError(
    `${path} is on no volume of the job: ${mounts.map(({ local }) => local).join(', ') || 'it has none'}.`,
    {
      field: 'mounts',
      hint: 'Put it (and the store) on a mounted share, or copy it there with syncFromObs.',
    },
  )
}

/** Longest wait for the first node's name to resolve, in seconds. */
const resolveSeconds = 180
const masterPort = 6060

/**
 * The shell line that a container runs: it works out the node's place from ModelArts' variables, stops at the first
 * failure, and becomes the launch's command. Nothing that a user wrote reaches the shell unquoted.
 *
 * Source of the variables: "Viewing Environment Variables of a Training Container"; the first of `VC_WORKER_HOSTS` is
 * the node of rank 0, whose name may take some seconds to resolve.
 */
export function jobCommand(launch: Launch, mounts: readonly ModelArtsMount[]): string {
  return [
    'set -eu',
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: variables of the shell
    'export NNODES="${MA_NUM_HOSTS:-1}" NODE_RANK="${VC_TASK_INDEX:-0}"',
    `export MASTER_PORT=${masterPort} MASTER_ADDR=127.0.0.1`,
    'if [ "$NNODES" -gt 1 ]; then first="${VC_WORKER_HOSTS%%,*}"; MASTER_ADDR=; tries=0',
    `while [ -z "$MASTER_ADDR" ] && [ "$tries" -lt ${resolveSeconds} ]`,
    'do MASTER_ADDR="$(getent hosts "$first" | cut -d" " -f1 | head -n1)" || true',
    'if [ -z "$MASTER_ADDR" ]; then sleep 1; fi; tries=$((tries + 1)); done',
    '[ -n "$MASTER_ADDR" ] || { echo "The name of the first node, $first, does not resolve." >&2; exit 1; }; fi',
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: variables of the shell
    ...Object.entries(launch.env ?? {}).map(([name, value]) => exported(name, value)),
    ...(launch.dir === undefined ? [] : [`cd ${quoteWord(launch.dir)}`]),
    ...(launch.resume ? [`if [ -e ${shellWord({ read: launch.resume.once }, mounts)} ]; then`] : []),
    ...(launch.resume ? [execLine(launch.resume.argv, mounts), 'fi'] : []),
    execLine(launch.argv, mounts),
  ].join('\n')
}

const execLine = (argv: readonly Word[], mounts: readonly ModelArtsMount[]): string =>
  `exec ${argv.map(word => shellWord(word, mounts)).join(' ')}`

const nodeVariables = { rank: '$NODE_RANK', count: '$NNODES', masterAddr: '$MASTER_ADDR', masterPort: '$MASTER_PORT' }

function shellWord(word: Word, mounts: readonly ModelArtsMount[]): string {
  if (typeof word !== 'object') return quoteWord(String(word))
  if ('node' in word) return `"${nodeVariables[word.node]}"`
  return quoteWord(pathInContainer('read' in word ? word.read : word.write, mounts))
}

/** In the command and not among the job's variables, because the service refuses values with a `$` there. */
function exported(name: string, value: string): string {
  if (!/^[A-Za-z_]\w*$/.test(name)) throw new InputError(`env: '${name}' is no name of a variable.`, { field: 'env' })
  if (isSecretName(name))
    throw new InputError(`env.${name}: a job's page shows its command, and this looks like a secret.`, {
      field: 'env',
      hint: 'Put it into a file on the volume that only the job reads.',
    })
  return `export ${name}=${quoteWord(value)}`
}
