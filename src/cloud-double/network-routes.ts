import { type DoublePool, fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { bodyOf, type ThingRoute, type Things } from './things.ts'

export interface StoredNetwork {
  readonly cidr: string
  links: readonly { readonly name: string; readonly sfsId: string }[]
}

export interface NetworkRoutesOptions {
  readonly pools: readonly DoublePool[]
  readonly networks: Things<StoredNetwork>
  /** Links by network and share, so that each takes its own time. */
  readonly links: Things<{ readonly networkId: string; readonly shareId: string }>
  hasShare(id: string): boolean
}

const nameLabel = 'os.modelarts/name'

/** The network that pools are in unless they name another. */
const poolNetwork = 'network-double'

/** Pools below `/v2/{project}/` and networks below `/v1/{project}/`. */
export function networkRoutes(options: NetworkRoutesOptions): ThingRoute {
  const { pools, networks, links } = options
  const shared = networks.add(poolNetwork, { cidr: '192.168.128.0/20', links: [] })
  shared.looks = Number.MAX_SAFE_INTEGER
  const idOf = (network: { readonly id: string }) => (network === shared ? poolNetwork : network.id)
  const find = (id: string | undefined) => networks.get(id === poolNetwork ? shared.id : id)

  function describe(network: NonNullable<ReturnType<typeof find>>) {
    const { cidr, links: asked } = network.asked
    const sfsTurboStatus = links.all
      .filter(({ asked: { networkId } }) => networkId === network.id)
      .flatMap(({ id }) => links.get(id) ?? [])
      .map((link, at) => {
        const status = links.stateOf(link, { making: 'Creating', ready: 'Active' })
        const ipAddr = status === 'Active' ? { ipAddr: `192.168.20.${7 + at}` } : {}
        return { name: link.name, sfsId: link.asked.shareId, connectionType: 'VpcPort', status, ...ipAddr }
      })
    return {
      ...{ apiVersion: 'v1', kind: 'Network' },
      metadata: { name: idOf(network), labels: { [nameLabel]: network.name, 'os.modelarts/workspace.id': '0' } },
      spec: { cidr, connection: { sfsTurboConnectionList: asked } },
      status: {
        phase: networks.stateOf(network, { making: 'Creating', ready: 'Active' }),
        subnets: [{ networkId: `subnet-of-${idOf(network)}` }],
        connectionStatus: { sfsTurboStatus },
      },
    }
  }

  function patch(network: NonNullable<ReturnType<typeof find>>, body: unknown) {
    const spec = fields(fields(body, 'network', ['spec']).spec, 'spec', ['connection'])
    const connection = fields(spec.connection, 'connection', ['sfsTurboConnectionList', 'peerConnectionList'])
    const wanted = ((connection.sfsTurboConnectionList ?? network.asked.links) as readonly unknown[]).map(each => {
      const { name, sfsId, ...others } = fields(each, 'sfsTurboConnectionList', ['name', 'sfsId', 'subnetId'])
      if (!options.hasShare(String(sfsId))) throw new Refusal(400, 'ModelArts.2788', `no share ${sfsId}`)
      return { name: String(name), sfsId: String(sfsId), ...others }
    })
    const gone = links.all.filter(
      ({ asked }) => asked.networkId === network.id && !wanted.some(({ sfsId }) => sfsId === asked.shareId),
    )
    for (const link of gone) links.remove(link, 'Deleting')
    for (const { name, sfsId } of wanted)
      if (!links.all.some(({ asked, state }) => asked.shareId === sfsId && asked.networkId === network.id && !state))
        links.add(name, { networkId: network.id, shareId: sfsId })
    network.asked.links = wanted
  }

  return ([resource, id], request) => {
    const { method } = request
    if (resource === 'pools' && method === 'GET') {
      const found = id === undefined ? pools : pools.filter(({ name }) => name === id)
      const items = found.map(describePool)
      if (id !== undefined && items.length === 0) throw new Refusal(404, 'ModelArts.2890', 'The pool does not exist.')
      return { status: 200, body: id === undefined ? { kind: 'PoolList', items } : items[0] }
    }
    if (resource !== 'networks') return undefined
    if (id === undefined) {
      if (method === 'GET') return { status: 200, body: { kind: 'NetworkList', items: networks.all.map(describe) } }
      if (method !== 'POST') return undefined
      const { metadata, spec } = fields(bodyOf(request), 'network', ['apiVersion', 'kind', 'metadata', 'spec'])
      const { labels } = fields(metadata, 'metadata', ['labels'])
      const { [nameLabel]: name } = fields(labels, 'labels', [nameLabel, 'os.modelarts/workspace.id'])
      const { cidr } = fields(spec, 'spec', ['cidr'])
      if (!/^.{4,32}$/.test(String(name))) throw new Refusal(400, 'ModelArts.2788', 'name')
      return { status: 201, body: describe(networks.add(String(name), { cidr: String(cidr), links: [] })) }
    }
    const network = find(id)
    if (!network) throw new Refusal(404, 'ModelArts.2788', 'The network does not exist.')
    if (method === 'GET') return { status: 200, body: describe(network) }
    if (method !== 'PATCH') return undefined
    if (request.headers['content-type'] !== 'application/merge-patch+json')
      throw new Refusal(415, 'ModelArts.2788', 'The content type must be application/merge-patch+json.')
    patch(network, bodyOf(request))
    return { status: 200, body: describe(network) }
  }
}

function describePool({ name, phase = 'Running', trains = true, nodes, devicesPerNode, network }: DoublePool) {
  return {
    ...{ apiVersion: 'v2', kind: 'Pool' },
    metadata: { name, labels: { [nameLabel]: `${name} of the team` } },
    spec: {
      ...{ type: 'Dedicate', scope: trains ? ['Train', 'Notebook'] : ['Infer'] },
      resources: [{ flavor: `modelarts.bm.${devicesPerNode}`, count: nodes }],
      network: { name: network ?? poolNetwork },
    },
    status: {
      phase,
      scope: [
        { scopeType: 'Train', state: trains ? 'Enabled' : 'Disabled' },
        { scopeType: 'Notebook', state: trains ? 'Enabled' : 'Disabled' },
      ],
    },
  }
}
