import { isDeepStrictEqual } from 'node:util'
import type { FailedNode } from '../../flow/executor.ts'
import type { SshHost } from './host.ts'
import { endScript, removeScript } from './remote-job.ts'
import type { SshClient } from './ssh-client.ts'
import type { SshJob } from './ssh-job.ts'

/** The first `nodes` hosts, those on which earlier tries failed only where there are not enough others. */
export function chooseHosts(
  hosts: readonly SshHost[],
  nodes: number,
  avoid: readonly FailedNode[],
): { readonly on: readonly SshHost[]; readonly leftOut: readonly SshHost[] } {
  const failed = avoid.map(({ job, node }) => plain((job as SshJob).hosts[node]))
  const isBad = (host: SshHost) => failed.some(other => isDeepStrictEqual(other, plain(host)))
  const on = [...hosts.filter(host => !isBad(host)), ...hosts.filter(isBad)].slice(0, nodes)
  return { on, leftOut: hosts.filter(host => isBad(host) && !on.includes(host)) }
}

/** As it comes back from the job's note. */
const plain = (host: SshHost | undefined): unknown => host && JSON.parse(JSON.stringify(host))

/**
 * Ends what may still run of earlier tries, on all of their hosts that answer: a job that was given up because its host
 * was out of reach would otherwise go on beside the new one when the host comes back.
 */
export async function endEarlier(client: SshClient, avoid: readonly FailedNode[], graceMs: number): Promise<void> {
  await Promise.allSettled(
    avoid.flatMap(({ job }) => {
      const { id, hosts, places } = job as SshJob
      return hosts.map(async (host, rank) => {
        const place = places[rank]!
        await client.run(host, endScript(place, graceMs), { job: id, withinMs: 0 })
        await client.run(host, removeScript(place), { job: id, withinMs: 0 })
      })
    }),
  )
}
