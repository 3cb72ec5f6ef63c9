/** One word of a command line; paths say whether they are read or written, so that executors can mount or copy them. */
export type Word =
  | string
  | number
  | { readonly read: string }
  | { readonly write: string }
  | { readonly node: 'rank' | 'count' | 'masterAddr' | 'masterPort' }

/** What a job runs, as data: the same on every node but for its `node` words. Never a shell string. */
export interface Launch {
  readonly argv: readonly Word[]
  readonly env?: Readonly<Record<string, string>>
  /** The folder to run it in, as the machines that run it see it; default the executor's own. */
  readonly dir?: string
  /** Machines that run `argv` at the same time. */
  readonly nodes: number
  /** NPUs that each of them needs; 0 for a job that needs none. */
  readonly devicesPerNode: number
  /**
   * For places that start a job anew by themselves when a machine fails: from when the file `once` is there, they run
   * this command, which goes on from what an earlier start left. Absent: they run `argv` again.
   */
  readonly resume?: { readonly once: string; readonly argv: readonly Word[] }
}

/** What a node knows of its place in the job. */
export interface NodePlace {
  readonly rank: number
  readonly count: number
  readonly masterAddr: string
  readonly masterPort: number
}

/** The command line of one node, with each path as `mapPath` says that the node sees it. */
export function resolveWords(words: readonly Word[], place: NodePlace, mapPath: (path: string) => string): string[] {
  return words.map(word => {
    if (typeof word !== 'object') return String(word)
    if ('read' in word) return mapPath(word.read)
    if ('write' in word) return mapPath(word.write)
    return String(place[word.node])
  })
}

/** A word as a POSIX shell reads it back unchanged. */
export function quoteWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** True for names of environment variables whose values are nobody's business. */
export function isSecretName(name: string): boolean {
  return /TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(KEY|AK|SK)$/i.test(name)
}

/**
 * A command line that a person can paste into a POSIX shell; per-node words become `$NODE_RANK` and the like, and
 * environment values whose names speak of secrets are left out.
 */
export function shellLine(launch: Launch): string {
  const names = { rank: '$NODE_RANK', count: '$NNODES', masterAddr: '$MASTER_ADDR', masterPort: '$MASTER_PORT' }
  const words = launch.argv.map(word =>
    typeof word === 'object' && 'node' in word
      ? `"${names[word.node]}"`
      : quoteWord(typeof word === 'object' ? ('read' in word ? word.read : word.write) : String(word)),
  )
  const env = Object.entries(launch.env ?? {}).map(
    ([name, value]) => `${name}=${isSecretName(name) ? '…' : quoteWord(value)}`,
  )
  const enter = launch.dir === undefined ? [] : ['cd', quoteWord(launch.dir), '&&']
  return [...enter, ...env, ...words].join(' ')
}

/** A launch of `torchrun script args` with the rendezvous words of every node filled in by the executor. */
export function torchrun(
  script: string,
  args: readonly Word[],
  layout: { readonly nodes: number; readonly devicesPerNode: number; readonly env?: Readonly<Record<string, string>> },
): Launch {
  return {
    argv: [
      'torchrun',
      ...['--nproc_per_node', layout.devicesPerNode],
      ...['--nnodes', { node: 'count' } as const],
      ...['--node_rank', { node: 'rank' } as const],
      ...['--master_addr', { node: 'masterAddr' } as const],
      ...['--master_port', { node: 'masterPort' } as const],
      { read: script },
      ...args,
    ],
    nodes: layout.nodes,
    devicesPerNode: layout.devicesPerNode,
    ...(layout.env ? { env: layout.env } : {}),
  }
}
