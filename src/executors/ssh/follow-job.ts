import { setTimeout as sleep } from 'node:timers/promises'
import type { JobUpdate } from '../../flow/executor.ts'
import { interleave } from '../interleave.ts'
import { fetchFiles } from './copied-files.ts'
import { followNode, type NodeEnd } from './follow-node.ts'
import { endScript } from './remote-job.ts'
import type { SshClient } from './ssh-client.ts'
import type { SshJob } from './ssh-job.ts'

export interface FollowJobOptions {
  readonly client: SshClient
  readonly job: SshJob
  readonly graceMs: number
  readonly signal: AbortSignal
  isCancelled(): boolean
}

/**
 * Tells what all nodes print, and how the job ended. When one node fails the job has failed: the others get `graceMs` to
 * end by themselves, which lets them say what they know, and are ended then.
 */
export async function* followJob(options: FollowJobOptions): AsyncGenerator<JobUpdate> {
  const { client, job, graceMs, isCancelled } = options
  const { hosts, places } = job
  const ends = new Map<number, NodeEnd>()
  const allEnded = new AbortController()
  yield { type: 'state', state: 'running' }
  yield* interleave<JobUpdate>(options.signal, async ({ give, spawn, signal }) => {
    const endOthers = async () => {
      const either = AbortSignal.any([signal, allEnded.signal])
      await sleep(graceMs, undefined, { signal: either }).catch(() => {})
      if (either.aborted) return
      await Promise.all(
        [...hosts.entries()]
          .filter(([rank]) => !ends.get(rank)?.isUnreachable)
          .map(([rank, host]) => client.run(host, endScript(places[rank]!, graceMs), { job: job.id, signal })),
      )
    }
    for (const [rank, host] of hosts.entries())
      spawn(async () => {
        const node = hosts.length === 1 ? {} : { node: rank }
        const onLine = (line: string) => give({ type: 'log', line, ...node })
        const end = await followNode({ client, host, place: places[rank]!, signal, onLine })
        // A leader that is gone may have left others.
        if (end.exitCode === undefined && !end.isUnreachable)
          await client.run(host, endScript(places[rank]!, 0), { job: job.id, signal })
        ends.set(rank, end)
        if (ends.size === hosts.length) allEnded.abort()
        else if (end.exitCode !== 0 && [...ends.values()].filter(({ exitCode }) => exitCode !== 0).length === 1)
          spawn(endOthers)
      })
  })
  // The first node comes last: of files that several wrote, its are kept.
  for (const rank of [...hosts.keys()].reverse())
    if (!ends.get(rank)?.isUnreachable && job.folders[rank] !== undefined)
      await fetchFiles(client, hosts[rank]!, { job: job.id, folder: job.folders[rank], paths: job.fetched })
  // What is out of reach may still be running, whatever was asked for.
  const isKnown = [...ends.values()].every(end => !end.isUnreachable)
  yield isKnown && isCancelled() ? { type: 'state', state: 'cancelled' } : endState(job, ends)
}

/** The first node that failed speaks for the job. */
function endState({ hosts }: SshJob, ends: ReadonlyMap<number, NodeEnd>): JobUpdate {
  const failed = [...ends].find(([, { exitCode }]) => exitCode !== 0)
  if (!failed) return { type: 'state', state: 'succeeded', exitCode: 0 }
  const [rank, { exitCode, reason }] = failed
  const where = hosts.length === 1 ? hosts[rank]!.name : `node ${rank}, ${hosts[rank]!.name}`
  const node = hosts.length === 1 ? {} : { node: rank }
  if (exitCode === undefined) return { type: 'state', state: 'lost', reason: `${where}: ${reason}`, ...node }
  return { type: 'state', state: 'failed', exitCode, ...(hosts.length === 1 ? {} : { reason: where }), ...node }
}
