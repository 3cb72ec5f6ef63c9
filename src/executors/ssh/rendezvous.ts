import { isIP } from 'node:net'
import type { NodePlace } from '../../flow/launch.ts'
import { masterPort } from '../master-port.ts'
import type { SshHost } from './host.ts'

/** Where node `rank` of job `id` stands among its hosts; the first is the master. */
export function placeOf(hosts: readonly SshHost[], { rank, id }: { rank: number; id: string }): NodePlace {
  const count = hosts.length
  return { rank, count, masterAddr: count === 1 ? '127.0.0.1' : addressOf(hosts[0]!), masterPort: masterPort(id) }
}

/**
 * Environment by which the nodes of a job find each other: the address and network interface of each, and 1,800 s for
 * those who start late instead of HCCL's 120. One node needs none.
 * Source: the toolchain's examples and public guides (HCCL_CONNECT_TIMEOUT, *_SOCKET_IFNAME, HCCL_IF_IP).
 */
export function hcclEnvironment(
  hosts: readonly SshHost[],
  { rank, networkInterface }: { readonly rank: number; readonly networkInterface?: string | undefined },
): Readonly<Record<string, string>> {
  if (hosts.length === 1) return {}
  const address = addressOf(hosts[rank]!)
  const interfaces = ['HCCL_SOCKET_IFNAME', 'GLOO_SOCKET_IFNAME', 'TP_SOCKET_IFNAME']
  return {
    HCCL_CONNECT_TIMEOUT: '1800',
    ...(isIP(address) ? { HCCL_IF_IP: address } : {}),
    ...(networkInterface ? Object.fromEntries(interfaces.map(name => [name, networkInterface])) : {}),
  }
}

const addressOf = (host: SshHost): string => host.address ?? host.name
