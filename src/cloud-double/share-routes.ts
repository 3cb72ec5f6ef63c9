import { type DataTaskRoutesOptions, dataTaskRoutes, sfs, wrong } from './data-task-routes.ts'
import { fields } from './job-rules.ts'
import { bodyOf, type DoubleThing, pageOf, type ThingRoute, type Things } from './things.ts'

export type StoredShare = Readonly<Record<string, unknown>>
export interface StoredTarget {
  readonly shareId: string
  readonly obs: Readonly<Record<string, unknown>>
}

export interface ShareRoutesOptions extends DataTaskRoutesOptions {
  readonly shares: Things<StoredShare>
  readonly targets: Things<StoredTarget>
  /** GiB that are used of each share. */
  readonly usedGib: number
  hasBucket(name: string): boolean
}

const shareStates = { making: '100', ready: '200' }

/** SFS Turbo, below `/v1/{project}/sfs-turbo/`: shares, their links with buckets, and copies. */
export function shareRoutes(options: ShareRoutesOptions): ThingRoute {
  const { shares, targets } = options
  const ofTasks = dataTaskRoutes(options)

  function describe(share: DoubleThing<StoredShare>) {
    const { metadata, ...asked } = share.asked
    const status = shares.stateOf(share, shareStates)
    return {
      ...asked,
      ...fields(metadata, 'metadata', ['expand_type', 'hpc_bw']),
      ...{ id: share.id, name: share.name, status, size: `${asked.size}`, created_at: '2026-01-01T00:00:00' },
      ...(status === '200' ? { export_location: '10.0.0.9:/', pay_model: '0' } : {}),
      avail_capacity: `${Number(asked.size) - options.usedGib}`,
    }
  }

  function create(body: unknown) {
    const asked = fields(fields(body, 'body', ['share']).share, 'share', [
      ...['name', 'size', 'share_proto', 'share_type', 'availability_zone', 'vpc_id', 'subnet_id'],
      ...['security_group_id', 'metadata', 'enterprise_project_id'],
    ])
    const { expand_type, hpc_bw } = fields(asked.metadata, 'metadata', ['expand_type', 'hpc_bw'])
    if (!/^[A-Za-z][\w-]{3,63}$/.test(String(asked.name))) throw sfs(400, '0003', 'Invalid name')
    if (expand_type !== 'hpc' || !/^(20|40|125|250|500|1000)M$/.test(String(hpc_bw))) wrong('metadata')
    if (asked.share_proto !== 'NFS' || asked.share_type === undefined) wrong('share_proto')
    const units = Math.round(Number(asked.size) / 1228.8)
    if (units < (hpc_bw === '20M' ? 3 : 1) || Math.floor(units * 1228.8 + 1e-6) !== asked.size)
      throw sfs(400, '0008', 'Invalid size')
    for (const place of ['availability_zone', 'vpc_id', 'subnet_id', 'security_group_id'] as const)
      if (typeof asked[place] !== 'string' || asked[place] === '') wrong(place)
    if (shares.all.some(({ name }) => name.toLowerCase() === String(asked.name).toLowerCase()))
      throw sfs(409, '0009', 'Name has existed')
    if (!shares.hasRoom) throw sfs(400, '0010', 'Quota exceeds')
    const { id, name } = shares.add(String(asked.name), asked)
    return { status: 202, body: { id, name, status: '100' } }
  }

  const describeTarget = (target: DoubleThing<StoredTarget>) => {
    const { bucket } = target.asked.obs
    const ready = options.hasBucket(String(bucket)) ? 'AVAILABLE' : 'MISCONFIGURED'
    const lifecycle = targets.stateOf(target, { making: 'CREATING', ready })
    return {
      ...{ target_id: target.id, file_system_path: target.name, lifecycle, obs: target.asked.obs },
      ...(/FAILED|MISCONFIGURED/.test(lifecycle) ? { failure_details: { message: 'The bucket refused.' } } : {}),
    }
  }

  const ofTargets: ThingRoute = ([shareId = '', id], request) => {
    const { method } = request
    const here = () => targets.all.filter(({ asked }) => asked.shareId === shareId)
    if (id === undefined && method === 'GET') {
      const found = here().map(describeTarget)
      return { status: 200, body: { count: found.length, targets: found } }
    }
    if (id === undefined && method === 'POST') {
      const { file_system_path: path, obs } = fields(bodyOf(request), 'target', ['file_system_path', 'obs'])
      if (!/^(?!\.{1,2}$)[^/]{1,63}$/.test(String(path))) wrong('file_system_path')
      if (here().some(({ name }) => name === path)) wrong('file_system_path exists')
      const asked = fields(obs, 'obs', ['bucket', 'endpoint', 'policy', 'attributes'])
      if (typeof asked.bucket !== 'string' || typeof asked.endpoint !== 'string') wrong('obs')
      fields(asked.attributes ?? {}, 'attributes', ['file_mode', 'dir_mode', 'uid', 'gid'])
      return { status: 202, body: { target_id: targets.add(String(path), { shareId, obs: asked }).id } }
    }
    const target = targets.get(id)
    if (!target) throw sfs(404, '0002', 'Not found')
    if (method === 'GET') return { status: 200, body: describeTarget(target) }
    if (method !== 'DELETE') return undefined
    targets.remove(target, 'DELETING')
    return { status: 202 }
  }

  return ([first, second, ...rest], request) => {
    if (first !== 'sfs-turbo') return undefined
    const { method, url } = request
    if (second !== 'shares') return ofTasks([second ?? '', ...rest], request)
    const [id, ...below] = rest
    if (id === undefined) return method === 'POST' ? create(bodyOf(request)) : undefined
    if (id === 'detail' && method === 'GET') {
      const found = pageOf(shares.all, url).map(describe)
      return { status: 200, body: { shares: found, count: shares.all.length } }
    }
    const share = below.length === 0 ? shares.get(id) : shares.all.find(each => each.id === id)
    if (!share) throw sfs(403, '9000', 'The share does not exist.')
    if (below[0] === 'targets') return ofTargets([id, below[1]!].filter(Boolean), request)
    if (below.length > 0) throw sfs(404, '0001', 'There is no such path.')
    if (method === 'GET') return { status: 200, body: describe(share) }
    if (method !== 'DELETE') return undefined
    shares.remove(share, '100')
    return { status: 202 }
  }
}
