import { createHash } from 'node:crypto'
import { InputError } from '../../errors.ts'
import { isSecretName, type Launch, type Word } from '../../flow/launch.ts'
import { type DialectFacts, dialects } from './dialects.ts'
import { mountsOf } from './mounts.ts'
import { affinityWithout } from './node-affinity.ts'
import type { KubernetesOptions } from './options.ts'

/** The API objects of one job; the job comes last and owns the others. */
export interface JobObjects {
  readonly secret?: ApiObject
  readonly rankTable?: ApiObject
  readonly job: ApiObject
}

export interface ApiObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly [field: string]: unknown }
  readonly [field: string]: unknown
}

/** Annotation of a job with the id that it was submitted under. */
export const idAnnotation = 'ascendflow/id'

/** Name of the only task of a job; its pods are `<job>-worker-<rank>`. */
export const taskName = 'worker'

const weekSeconds = 7 * 24 * 3600

/**
 * The Volcano job that runs `launch`, one pod a node, all or none. Rank and master address come from Volcano's plugins
 * `env` and `svc`; paths are mapped by the mounts; values that are secrets stand in a Secret. A pod that fails or is
 * evicted ends the job: trying again is the engine's business.
 *
 * Sources: volcano-sh/volcano ed72c7c8, config/crd/volcano/bases/batch.volcano.sh_jobs.yaml and
 * pkg/controllers/job/plugins/{env,svc}; Kubernetes' reference of `command` for `$(NAME)`.
 * `without` names machines that it must not run on.
 * @throws InputError for a path that lies in no mount, and for fields of `podSpec` that are made here.
 */
export function volcanoJob(
  launch: Launch,
  {
    id,
    name,
    without = [],
    ...options
  }: KubernetesOptions & { readonly id: string; readonly name: string; readonly without?: readonly string[] },
): JobObjects {
  const dialect = launch.devicesPerNode > 0 ? dialects[options.dialect] : undefined
  const env = { ...options.env, ...launch.env }
  const labels = { ...options.labels, ...dialect?.label }
  const secrets = Object.entries(env).filter(([variable]) => isSecretName(variable))
  const mounts = mountsOf(launch.argv, options.mounts ?? [])
  const about = { name, labels: { ...labels, 'app.kubernetes.io/managed-by': 'ascendflow' } }
  const rankTable = dialect && `${dialect.rankTable.namePrefix}${name}`
  const job: ApiObject = {
    apiVersion: 'batch.volcano.sh/v1alpha1',
    kind: 'Job',
    metadata: { ...about, annotations: { [idAnnotation]: id } },
    spec: {
      schedulerName: 'volcano',
      minAvailable: launch.nodes,
      queue: options.queue ?? 'default',
      ttlSecondsAfterFinished: options.ttlSecondsAfterFinished ?? weekSeconds,
      policies: [{ events: ['PodFailed', 'PodEvicted'], action: 'TerminateJob' }],
      plugins: { env: [], svc: ['--publish-not-ready-addresses=true'], ...dialect?.plugins },
      tasks: [
        {
          name: taskName,
          replicas: launch.nodes,
          policies: [{ event: 'TaskCompleted', action: 'CompleteJob' }],
          template: { metadata: { labels }, spec: podSpec() },
        },
      ],
    },
  }
  return {
    ...(secrets.length === 0
      ? {}
      : {
          secret: {
            ...{ apiVersion: 'v1', kind: 'Secret', metadata: about, type: 'Opaque' },
            stringData: Object.fromEntries(secrets),
          },
        }),
    ...(dialect && rankTable
      ? {
          rankTable: {
            ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...about, name: rankTable } },
            data: { [dialect.rankTable.key]: '{"status":"initializing"}' },
          },
        }
      : {}),
    job,
  }

  function podSpec() {
    const { podSpec: extra = {}, terminationGracePeriodSeconds = 30 } = options
    for (const made of ['containers', 'volumes'])
      if (made in extra) throw new InputError(`kubernetes: podSpec.${made} is made from the other options.`)
    const onHostNetwork = options.hostNetwork ?? launch.nodes > 1
    const devices = devicesOf(dialect, rankTable, options)
    const shm = { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: options.shm ?? '60Gi' } }
    return {
      ...{ restartPolicy: 'Never', terminationGracePeriodSeconds, enableServiceLinks: false },
      automountServiceAccountToken: false,
      ...(onHostNetwork ? { hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' } : {}),
      ...extra,
      ...(without.length > 0 ? { affinity: affinityWithout(without, extra.affinity) } : {}),
      containers: [
        {
          ...{ name: taskName, image: options.image },
          command: commandOf(launch, { name, mapPath: mounts.mapPath }),
          env: [
            ...Object.entries(env).map(([variable, value]) =>
              isSecretName(variable)
                ? { name: variable, valueFrom: { secretKeyRef: { name, key: variable } } }
                : { name: variable, value: literal(value) },
            ),
            ...Object.entries(options.secretEnv ?? {}).map(([variable, { secret, key }]) => ({
              name: variable,
              valueFrom: { secretKeyRef: { name: secret, key } },
            })),
            ...devices.env,
          ],
          resources: resourcesOf(launch, dialect, options),
          volumeMounts: [...mounts.volumeMounts, { name: 'shm', mountPath: '/dev/shm' }, ...devices.volumeMounts],
        },
      ],
      volumes: [...mounts.volumes, shm, ...devices.volumes],
    }
  }
}

/**
 * A name for the job of `id`, up to 49 characters so that pods, services and ConfigMaps named after it stay within 63
 * (RFC 1123); the same id in another store has another.
 */
export function jobName(id: string, logDir: string): string {
  const readable = id
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 38)
  const digest = createHash('sha256').update(`${id}\0${logDir}`).digest('hex').slice(0, 8)
  // A service of the same name is made for the job, and services begin with a letter (RFC 1035).
  return `${/^[a-z]/.test(readable) ? '' : 'j'}${readable}-${digest}`.replaceAll(/-+/g, '-')
}

/** A folder that is not there must not be made, as a `workingDir` would be: the command enters it by itself. */
function commandOf(
  { argv, dir, nodes }: Launch,
  { name, mapPath }: { readonly name: string; mapPath(path: string): string },
): readonly string[] {
  const enter = dir === undefined ? [] : ['/bin/sh', '-c', 'cd -- "$0" && exec "$@"', dir].map(literal)
  return [...enter, ...argv.map(word => commandWord(word, { name, nodes, mapPath }))]
}

function commandWord(
  word: Word,
  { name, nodes, mapPath }: { name: string; nodes: number; mapPath: (path: string) => string },
): string {
  if (typeof word !== 'object') return literal(String(word))
  if ('read' in word) return literal(mapPath(word.read))
  if ('write' in word) return literal(mapPath(word.write))
  switch (word.node) {
    case 'rank':
      return '$(VC_TASK_INDEX)'
    case 'count':
      return String(nodes)
    case 'masterAddr':
      return nodes === 1 ? '127.0.0.1' : `${name}-${taskName}-0.${name}`
    case 'masterPort':
      return String(masterPort(name))
  }
}

/** Jobs that share a node's network meet on ports of their own, as far as 1,000 numbers go. */
function masterPort(name: string): number {
  return 29_000 + (createHash('sha256').update(name).digest().readUInt32BE(0) % 1_000)
}

/** Kubernetes replaces `$(NAME)` in commands and values, and `$$` by `$`. */
const literal = (text: string) => text.replaceAll('$', '$$$$')

function resourcesOf(launch: Launch, dialect: DialectFacts | undefined, { cpu, memory }: KubernetesOptions) {
  const amounts = {
    ...(dialect ? { [dialect.resource]: launch.devicesPerNode } : {}),
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
  }
  // Extended resources cannot be overcommitted: requests must equal limits.
  return { requests: amounts, limits: amounts }
}

/** What a container needs to use NPUs: the node's driver and npu-smi, the rank table, the numbers of its devices. */
function devicesOf(dialect: DialectFacts | undefined, rankTable: string | undefined, { npuSmi }: KubernetesOptions) {
  if (!dialect || rankTable === undefined) return { env: [], volumes: [], volumeMounts: [] }
  const driver = '/usr/local/Ascend/driver'
  const tool = npuSmi ?? dialect.npuSmi
  return {
    env: Object.entries(dialect.annotationEnv).map(([name, annotation]) => ({
      name,
      valueFrom: { fieldRef: { fieldPath: `metadata.annotations['${annotation}']` } },
    })),
    volumes: [
      { name: 'driver', hostPath: { path: driver, type: 'Directory' } },
      { name: 'npu-smi', hostPath: { path: tool, type: 'File' } },
      { name: 'rank-table', configMap: { name: rankTable } },
    ],
    volumeMounts: [
      { name: 'driver', mountPath: driver, readOnly: true },
      { name: 'npu-smi', mountPath: tool, readOnly: true },
      { name: 'rank-table', mountPath: dialect.rankTable.mountPath, readOnly: true },
    ],
  }
}
