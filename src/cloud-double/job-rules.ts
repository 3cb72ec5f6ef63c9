import { Refusal } from './refusal.ts'

/** A resource pool of the double. */
export interface DoublePool {
  /** As `pool-…`. */
  readonly name: string
  /** Default `Running`. */
  readonly phase?: string
  /** Whether training is in its scope; default true. */
  readonly trains?: boolean
  readonly nodes: number
  readonly devicesPerNode: number
  /** Id of its network; default one that all pools share. */
  readonly network?: string
}

/** The parts of an accepted job that the double works with. */
export interface AcceptedJob {
  readonly name: string
  readonly workspaceId: string
  readonly description: string
  readonly annotations: Readonly<Record<string, string>>
  readonly command: string
  readonly environments: Readonly<Record<string, string>>
  readonly nodes: number
  readonly devicesPerNode: number
  readonly exportsLog: boolean
}

const bad = (message: string, code = 'ModelArts.2788', status = 400): never => {
  throw new Refusal(status, code, message)
}

/**
 * Takes a job apart as the service does, field by field; a field that it does not know is refused.
 * Source: reference of `POST /v2/{project_id}/training-jobs`; codes from its table of errors.
 */
export function acceptJob(body: unknown, pools: readonly DoublePool[]): AcceptedJob {
  const job = fields(body, 'job', ['kind', 'metadata', 'algorithm', 'spec', 'endpoints'])
  if (job.kind !== 'job') bad('kind must be job')
  const metadata = fields(job.metadata, 'metadata', ['name', 'workspace_id', 'description', 'annotations'])
  const name = text(metadata.name, 'metadata.name')
  if (!/^[\w-]{1,64}$/.test(name)) bad('metadata.name')
  const description = metadata.description === undefined ? '' : text(metadata.description, 'description')
  if (description.length > 256) bad('metadata.description')

  const workspaceId = metadata.workspace_id === undefined ? '0' : text(metadata.workspace_id, 'workspace_id')

  const algorithm = fields(job.algorithm, 'algorithm', [
    ...['engine', 'command', 'environments', 'parameters', 'inputs', 'outputs', 'local_code_dir', 'working_dir'],
  ])
  const engine = fields(algorithm.engine, 'algorithm.engine', ['image_url', 'image_repo_id'])
  const image = text(engine.image_url, 'algorithm.engine.image_url')
  if (/^[^/]*\.[^/]*\//.test(image)) bad('image_url is organisation/image:tag', 'ModelArts.2810')
  if (typeof algorithm.command !== 'string' || algorithm.command === '') bad('command is missing', 'ModelArts.2806')
  const environments = strings(algorithm.environments, 'environments')
  if (Object.keys(environments).length > 100) bad('environments: more than 100')
  for (const [key, value] of Object.entries(environments)) {
    if (!/^[A-Za-z_]\w*$/.test(key) || key.length > 8192) bad(`environments: name ${key}`)
    if (value.includes('$') || value.length > 4096) bad(`environments: value of ${key}`)
  }

  const spec = fields(job.spec, 'spec', [
    ...['resource', 'volumes', 'log_export_path', 'log_export_config', 'auto_stop', 'schedule_policy', 'notification'],
  ])
  const resource = fields(spec.resource, 'spec.resource', ['pool_id', 'flavor_id', 'node_count'])
  const pool = resource.pool_id === undefined ? undefined : pools.find(({ name }) => name === resource.pool_id)
  if (resource.pool_id !== undefined && !pool) bad('no such pool', 'ModelArts.2890', 404)
  if (pool && (pool.phase ?? 'Running') !== 'Running') bad('the pool is not running', 'ModelArts.2887')
  if (pool?.trains === false) bad('the pool is not for training', 'ModelArts.2886')
  const nodes = Number(resource.node_count)
  if (!Number.isSafeInteger(nodes) || nodes < 1) bad('node_count', 'ModelArts.2793')
  if (pool && nodes > pool.nodes) bad(`node_count ${nodes}: the pool has ${pool.nodes}`, 'ModelArts.2815')
  const devices = { x: 1, '2x': 2, '4x': 4, '8x': 8, '16x': 16 } as Readonly<Record<string, number>>
  const [, size] = /^modelarts\.pool\.visual\.(x|2x|4x|8x|16x)large$/.exec(String(resource.flavor_id)) ?? []
  if (resource.flavor_id !== undefined && (size === undefined || devices[size]! > (pool?.devicesPerNode ?? 8)))
    bad(`flavor ${resource.flavor_id} is not offered`, 'ModelArts.2781')
  checkVolumes(spec.volumes, pool !== undefined)

  return {
    ...{ name, workspaceId, description, nodes, environments },
    annotations: strings(metadata.annotations, 'annotations'),
    command: algorithm.command as string,
    devicesPerNode: size === undefined ? (pool?.devicesPerNode ?? 0) : devices[size]!,
    exportsLog: spec.log_export_path !== undefined,
  }
}

function checkVolumes(volumes: unknown, hasPool: boolean): void {
  const all = volumes ?? []
  if (!Array.isArray(all)) bad('volumes')
  if ((all as unknown[]).length > 0 && !hasPool) bad('volumes need a dedicated pool')
  for (const volume of all as unknown[]) {
    const kinds = fields(volume, 'volume', ['nfs', 'pfs', 'obs'])
    if (Object.keys(kinds).length !== 1) bad('a volume is one of nfs, pfs, obs')
    if (kinds.nfs === undefined) continue
    const nfs = fields(kinds.nfs, 'nfs', ['nfs_server_path', 'local_path', 'read_only'])
    if (!/^\d+\.\d+\.\d+\.\d+:\//.test(text(nfs.nfs_server_path, 'nfs_server_path'))) bad('nfs_server_path is ip:/path')
    text(nfs.local_path, 'local_path')
  }
}

/** The fields of an object, none of which may be unknown. */
export function fields(value: unknown, what: string, known: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) bad(`${what} must be an object`)
  const record = value as Readonly<Record<string, unknown>>
  for (const key of Object.keys(record)) if (!known.includes(key)) bad(`${what}: unknown field ${key}`)
  return record
}

function text(value: unknown, what: string): string {
  return typeof value === 'string' ? value : bad(`${what} must be a string`)
}

function strings(value: unknown, what: string): Readonly<Record<string, string>> {
  if (value === undefined) return {}
  const record = value as Readonly<Record<string, unknown>>
  for (const [key, each] of Object.entries(record)) text(each, `${what}.${key}`)
  return record as Readonly<Record<string, string>>
}
