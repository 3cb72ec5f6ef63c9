import { z } from 'zod'
import { askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import type { Transport } from '../transport.ts'
import { type Progress, type WaitOptions, waitUntil } from '../wait-until.ts'
import { listItems, Metadata, nameLabel } from './resource-pools.ts'

/** A network as it is asked for. */
export const NetworkRequest = z.strictObject({
  name: z.string().min(4, 'a name of 4 to 32 characters').max(32, 'a name of 4 to 32 characters'),
  /** In 192.168.0.0/16 to /24 or 172.16.0.0/12 to /24. */
  cidr: z
    .string()
    .regex(
      /^(192\.168\.\d{1,3}\.\d{1,3}\/(1[6-9]|2[0-4])|172\.(1[6-9]|2\d|3[01])\.\d{1,3}\.\d{1,3}\/(1[2-9]|2[0-4]))$/,
      "addresses as '192.168.128.0/20'",
    ),
  workspaceId: z.string().optional(),
})
export type NetworkRequest = z.output<typeof NetworkRequest>

const Connection = z.looseObject({ name: z.string().nullish(), sfsId: z.string() })
type Connection = z.output<typeof Connection>
const ConnectionStatus = z.looseObject({
  sfsId: z.string(),
  /** Where the share is mounted from within the network. */
  ipAddr: z.string().nullish(),
  /** Creating, Active, Abnormal, Deleting. */
  status: z.string().nullish(),
})

/** A network as the service tells of it. */
export const Network = z.looseObject({
  metadata: Metadata,
  spec: z
    .looseObject({
      cidr: z.string().nullish(),
      connection: z.looseObject({ sfsTurboConnectionList: z.array(Connection).nullish() }).nullish(),
    })
    .nullish(),
  status: z
    .looseObject({
      /** Creating, Active, Abnormal. */
      phase: z.string().nullish(),
      subnets: z.array(z.looseObject({ networkId: z.string().nullish() })).nullish(),
      connectionStatus: z.looseObject({ sfsTurboStatus: z.array(ConnectionStatus).nullish() }).nullish(),
    })
    .nullish(),
})
export type Network = z.output<typeof Network>

/** A share in a network. */
export interface ShareLink {
  readonly shareId: string
  /** Name of the link: the share's. */
  readonly name: string
}

/** Networks of dedicated pools, and the SFS Turbo shares that they reach. */
export interface Networks {
  list(signal?: AbortSignal): Promise<readonly Network[]>
  /** By its id, the `metadata.name`; undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<Network | undefined>
  /** Creates it, or gives the one that the console shows under this name. */
  create(request: NetworkRequest, options?: CreateOptions): Promise<Network>
  /** Waits until the network is active. */
  waitActive(id: string, options?: WaitOptions): Promise<Network>
  /** Adds a share to those that the network reaches; one that is there already stays. */
  link(id: string, link: ShareLink, signal?: AbortSignal): Promise<void>
  /** Waits for a link, and gives the address for `nfs` of mounts: not always the one that the share itself tells. */
  waitLinked(id: string, link: ShareLink, options?: WaitOptions): Promise<string>
  /** Takes a share out; the others stay. */
  unlink(id: string, shareId: string, signal?: AbortSignal): Promise<void>
  /** Waits until a share that was taken out is no longer connected. */
  waitUnlinked(id: string, shareId: string, options?: WaitOptions): Promise<void>
}

/**
 * ModelArts' networks over `transport`.
 *
 * The list of shares is replaced as a whole: links that two make at the same moment may undo each other.
 * Source: API reference, "Updating a Network Resource"; Huawei's Terraform provider, `modelarts_network`.
 */
export function networks(transport: Transport): Networks {
  const ask = askService(transport, { service: 'modelarts', version: 'v1' })
  const list = (signal?: AbortSignal) => listItems(ask, 'networks', Network, signal)
  const get = (id: string, signal?: AbortSignal) =>
    ask({ method: 'GET', path: ['networks', id], signal }, Network).catch(orNone())

  async function replaceLinks(
    id: string,
    change: (now: readonly Connection[], subnetId?: string | null) => readonly Connection[],
    signal?: AbortSignal,
  ) {
    const network = await get(id, signal)
    const now = linksOf(network)
    const wanted = change(now, network?.status?.subnets?.[0]?.networkId)
    if (wanted.length === now.length) return
    const body = { spec: { connection: { sfsTurboConnectionList: wanted } } }
    const contentType = 'application/merge-patch+json'
    await ask({ method: 'PATCH', path: ['networks', id], body, contentType, isRepeatable: true, signal }, z.unknown())
  }

  return {
    list,
    get,
    async create(request, options) {
      const { name, cidr, workspaceId = '0' } = checkRequest(NetworkRequest, request, 'network')
      const labels = { [nameLabel]: name, 'os.modelarts/workspace.id': workspaceId }
      const body = { apiVersion: 'v1', kind: 'Network', metadata: { labels }, spec: { cidr } }
      const signal = options?.signal
      return createOnce(
        {
          find: async () => (await list(signal)).find(({ metadata }) => metadata.labels?.[nameLabel] === name),
          create: () => ask({ method: 'POST', path: ['networks'], body, signal }, Network),
        },
        options,
      )
    },
    async waitActive(id, options) {
      const seen = await waitUntil(
        {
          ...{ service: 'modelarts', what: `network ${id}` },
          look: () => get(id, options?.signal),
          stateOf: network => network?.status?.phase ?? 'unknown',
          progress: network => {
            if (!network) return { failed: 'it is not there' }
            if (network.status?.phase === 'Active') return 'reached'
            return network.status?.phase === 'Abnormal' ? { failed: 'it is abnormal' } : 'coming'
          },
        },
        options,
      )
      return seen!
    },
    link: (id, { shareId, name }, signal) =>
      replaceLinks(
        id,
        (now, subnetId) => {
          if (now.some(each => each.sfsId === shareId)) return now
          return [...now, { name, sfsId: shareId, ...(subnetId ? { subnetId } : {}) }]
        },
        signal,
      ),
    async waitLinked(id, { shareId, name }, options) {
      const statusOf = (network: Network | undefined) => linkStatus(network, shareId)
      const seen = await waitUntil(
        {
          ...{ service: 'modelarts', what: `link of share ${name} to network ${id}` },
          look: () => get(id, options?.signal),
          stateOf: network => statusOf(network)?.status ?? 'unknown',
          progress: (network): Progress => {
            const { status, ipAddr } = statusOf(network) ?? {}
            if (status === 'Active' && ipAddr) return 'reached'
            if (status === 'Abnormal') return { failed: 'it is abnormal', hint: otherVpc }
            return linksOf(network).some(each => each.sfsId === shareId) ? 'coming' : { failed: 'it was taken out' }
          },
        },
        options,
      )
      return statusOf(seen)!.ipAddr!
    },
    unlink: (id, shareId, signal) => replaceLinks(id, now => now.filter(each => each.sfsId !== shareId), signal),
    async waitUnlinked(id, shareId, options) {
      await waitUntil(
        {
          ...{ service: 'modelarts', what: `link of share ${shareId} to network ${id}` },
          look: () => get(id, options?.signal),
          stateOf: network => linkStatus(network, shareId)?.status ?? 'gone',
          progress: network => (linkStatus(network, shareId) ? 'coming' : 'reached'),
        },
        options,
      )
    },
  }
}

const otherVpc =
  "Is the share of the HPC type, in a VPC whose addresses do not overlap the network's, and does its security group let TCP and UDP 111, 2048, 2049, 2051, 2052 and 20048 in?"

function linksOf(network: Network | undefined): readonly Connection[] {
  return network?.spec?.connection?.sfsTurboConnectionList ?? []
}

function linkStatus(network: Network | undefined, shareId: string): z.output<typeof ConnectionStatus> | undefined {
  return network?.status?.connectionStatus?.sfsTurboStatus?.find(each => each.sfsId === shareId)
}
