import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InputError } from '../../errors.ts'
import type { Executor } from '../../flow/executor.ts'
import { shellLine } from '../../flow/launch.ts'
import { jobName } from '../job-name.ts'
import { isKept, keptUpdates } from '../kept-updates.ts'
import { chooseHosts, endEarlier } from './choose-hosts.ts'
import { copiedFiles, sendFiles } from './copied-files.ts'
import { followJob } from './follow-job.ts'
import { parseHost, type SshHost } from './host.ts'
import { nodeCommand } from './node-command.ts'
import { endScript, filesScript, removeScript, startScript } from './remote-job.ts'
import { type SshClientOptions, sshClient } from './ssh-client.ts'
import type { SshJob } from './ssh-job.ts'

export interface SshOptions extends SshClientOptions {
  /** Hosts as `user@name:port` or records; a job of n nodes runs on the first n, of which the first is the master.
   * Hosts on which an earlier try of it failed come last. */
  readonly hosts: readonly (string | SshHost)[]
  /** NPUs of each host; absent: unknown, and layouts are not checked against it. */
  readonly devicesPerNode?: number
  /** Folders that every host sees as this machine does. What lies elsewhere is copied with rsync, there and back. */
  readonly sharedRoot?: string | readonly string[]
  /** Network interface between the nodes, for HCCL and Gloo, such as `eth0`. */
  readonly networkInterface?: string
  /** Environment of every job; a launch's own `env` comes last. */
  readonly env?: Readonly<Record<string, string>>
  /** Folder for jobs on the hosts, from the user's home; default `.ascendflow/jobs`. */
  readonly jobRoot?: string
  /** Time between TERM and KILL, in ms; default 10,000. Also what other nodes get to end by themselves when one fails. */
  readonly killAfterMs?: number
}

const name = 'ssh'
const submitWithinMs = 60_000

/**
 * Runs jobs on hosts over OpenSSH, each node's part as a session of its own that outlives connections and this process.
 * Hosts need a POSIX shell, `/proc`, and `setsid`; their keys must be known.
 */
export function ssh(options: SshOptions): Executor {
  const hosts = options.hosts.map(parseHost)
  if (hosts.length === 0) throw new InputError('ssh: hosts is empty.')
  const client = sshClient(options)
  const sharedRoots = [options.sharedRoot ?? []].flat()
  const graceMs = options.killAfterMs ?? 10_000

  return {
    name,
    maxNodes: hosts.length,
    ...(options.devicesPerNode === undefined ? {} : { devicesPerNode: options.devicesPerNode }),
    describe: launch =>
      `${hosts
        .slice(0, launch.nodes)
        .map(host => host.name)
        .join(', ')}: ${shellLine(launch)}`,

    async submit(launch, { id, logDir, signal, avoid = [] }) {
      if (launch.nodes > hosts.length)
        throw new InputError(`ssh: the job needs ${launch.nodes} nodes, and there are ${hosts.length} hosts.`)
      const { on, leftOut } = chooseHosts(hosts, launch.nodes, avoid)
      const root = options.jobRoot ?? '.ascendflow/jobs'
      const places = on.map((_, rank) => ({ root, job: `${rank}.${jobName(id, logDir)}` }))
      const copy = copiedFiles(launch, sharedRoots)
      const left = leftOut.length > 0 ? { leftOut: leftOut.map(host => host.name) } : {}
      const base = { executor: name, id, dir: logDir, places, hosts: on, fetched: copy.fetched, ...left }
      if (isKept(logDir)) return { ...base, folders: [] } satisfies SshJob
      await endEarlier(client, avoid, graceMs)
      const asked = { job: id, withinMs: submitWithinMs, signal }
      const written = [...new Set([...copy.sent, ...copy.fetched].map(path => dirname(path)))]
      const folders =
        written.length === 0
          ? []
          : await Promise.all(on.map((host, rank) => client.run(host, filesScript(places[rank]!, written), asked)))
      await Promise.all(folders.map((folder, n) => sendFiles(client, on[n]!, { job: id, folder, paths: copy.sent })))
      const job = { ...base, folders } satisfies SshJob
      const started = await Promise.allSettled(
        on.map((host, rank) =>
          client.run(
            host,
            startScript(places[rank]!, nodeCommand(launch, { ...options, job, rank, sharedRoots })),
            asked,
          ),
        ),
      )
      const refused = started.find(result => result.status === 'rejected')
      if (refused) {
        // Half a job is none: what was started ends, and asking again starts anew.
        await Promise.allSettled(
          on.map((host, rank) => client.run(host, endScript(places[rank]!, graceMs), { job: id, withinMs: 0 })),
        )
        await Promise.allSettled(
          on.map((host, rank) => client.run(host, removeScript(places[rank]!), { job: id, withinMs: 0 })),
        )
        throw refused.reason
      }
      return job
    },

    async *watch(job, { signal }) {
      const { id, dir, places, hosts } = job as SshJob
      yield* keptUpdates({
        dir,
        updates: () =>
          followJob({
            ...{ client, job: job as SshJob, graceMs, signal },
            isCancelled: () => existsSync(cancelMark(dir)),
          }),
        release: async () => {
          await Promise.all(
            hosts.map((host, rank) => client.run(host, removeScript(places[rank]!), { job: id, withinMs: 0 })),
          )
        },
      })
    },

    async cancel(job) {
      const { id, dir, places, hosts } = job as SshJob
      if (isKept(dir)) return
      await writeFile(cancelMark(dir), '')
      const told = await Promise.all(
        hosts.map((host, rank) => client.run(host, endScript(places[rank]!, graceMs), { job: id })),
      )
      if (!told.some(text => text.includes('live'))) await rm(cancelMark(dir), { force: true })
      for await (const _ of this.watch(job, new AbortController()));
    },
  }
}

const cancelMark = (dir: string): string => join(dir, 'cancelled')
