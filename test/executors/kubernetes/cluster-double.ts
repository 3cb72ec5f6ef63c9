import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { type PodProcess, startPod } from './pod-process.ts'
import { type Job, validateVolcanoJob } from './volcano-schema.ts'

/** What goes wrong with requests: called for each; what it gives happens in place of, or after, the request. */
export type Fault = (request: { readonly method: string; readonly path: string }) =>
  | { readonly status: number; readonly text?: string }
  /** The request is carried out, the answer is lost. */
  | 'reset after'
  /** The log is cut after so many bytes. */
  | { readonly cutAfterBytes: number; readonly gently?: boolean }
  | undefined

export interface DoublePod {
  readonly name: string
  readonly rank: number
  readonly uid: string
  process: PodProcess | undefined
  /** Set by those who take pods away. */
  status: Record<string, unknown>
}

interface DoubleJob {
  readonly body: Job
  readonly uid: string
  phase: string
  pods: DoublePod[]
  deleting: boolean
}

export interface ClusterDouble {
  readonly kubeconfig: string
  readonly requests: readonly string[]
  fault: Fault | undefined
  /** Pods wait while false. */
  schedules: boolean
  readonly jobs: ReadonlyMap<string, DoubleJob>
  readonly objects: ReadonlyMap<string, { readonly body: Record<string, unknown> }>
  evict(job: string, rank: number): Promise<void>
  close(): Promise<void>
}

interface DeleteOptions {
  readonly preconditions?: { readonly uid: string }
  readonly propagationPolicy?: string
}

const namespace = 'team-a'
const token = 'double-token'

/**
 * A Kubernetes API on loopback with what Volcano adds to it: jobs are checked against its schema, their pods are
 * processes of this machine, controllers do what the job's policies say. Only what the executor uses is there.
 */
export async function startClusterDouble(dir: string): Promise<ClusterDouble> {
  const jobs = new Map<string, DoubleJob>()
  const objects = new Map<string, { body: Record<string, unknown> }>()
  const requests: string[] = []
  const server = createServer((request, response) => {
    void answer(request, response).catch(error => send(response, 500, { message: String(error) }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const kubeconfig = join(dir, 'kubeconfig.json')
  await writeFile(kubeconfig, JSON.stringify(kubeconfigOf(url)))

  const double: ClusterDouble = {
    ...{ kubeconfig, requests, fault: undefined, schedules: true, jobs, objects },
    async evict(name, rank) {
      const pod = jobs.get(name)!.pods[rank]!
      pod.status = { reason: 'Evicted', message: 'The node was low on resource: ephemeral-storage.' }
      await pod.process!.stop(0)
    },
    async close() {
      for (const job of jobs.values()) for (const pod of job.pods) pod.process?.kill()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return double

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname: path, searchParams: query } = new URL(request.url!, url)
    const method = request.method!
    requests.push(`${method} ${path}`)
    const text = await bodyOf(request)
    if (request.headers.authorization !== `Bearer ${token}`) return send(response, 401, { message: 'Unauthorized' })
    const fault = double.fault?.({ method, path })
    if (typeof fault === 'object' && 'status' in fault)
      return send(response, fault.status, fault.text ?? { message: 'etcd' })
    const body = text === '' ? undefined : JSON.parse(text)
    const log = /\/pods\/([^/]+)\/log$/.exec(path)
    if (log) return sendLog(response, { name: log[1]!, query, fault: typeof fault === 'object' ? fault : undefined })
    const { status, body: result } = await carryOut({
      method,
      path,
      query,
      body,
      type: request.headers['content-type'],
    })
    if (fault === 'reset after') return void response.destroy()
    send(response, status, result)
  }

  interface Carried {
    readonly method: string
    readonly path: string
    readonly query: URLSearchParams
    readonly body: unknown
    readonly type: string | undefined
  }

  async function carryOut({ method, path, query, body, type }: Carried): Promise<{ status: number; body: unknown }> {
    const [, kind, name] =
      /^\/(?:api\/v1|apis\/batch\.volcano\.sh\/v1alpha1)\/namespaces\/team-a\/(jobs|pods|secrets|configmaps)(?:\/([^/]+))?$/.exec(
        path,
      ) ?? []
    const missing = { status: 404, body: { message: `${path} not found` } }
    if (method === 'POST' && query.get('fieldValidation') !== 'Strict')
      return { status: 400, body: { message: 'lenient' } }
    if (kind === 'jobs' && method === 'POST') return createJob(body as Job)
    if (kind === 'jobs') {
      const job = jobs.get(name!)
      if (!job) return missing
      if (method === 'DELETE') return deleteJob(job, body as DeleteOptions)
      return { status: 200, body: jobView(job) }
    }
    if (kind === 'pods') {
      const all = [...jobs.values()].flatMap(job => job.pods.map(pod => podView(job, pod)))
      if (!name) {
        const wanted = query.get('labelSelector')!.split('=')[1]
        return {
          status: 200,
          body: { items: all.filter(pod => pod.metadata.labels['volcano.sh/job-name'] === wanted) },
        }
      }
      const pod = all.find(pod => pod.metadata.name === name)
      return pod ? { status: 200, body: pod } : missing
    }
    if (kind === undefined) return missing
    if (method === 'POST') {
      const key = `${kind}/${(body as { metadata: { name: string } }).metadata.name}`
      if (objects.has(key)) return { status: 409, body: { message: 'already exists', reason: 'AlreadyExists' } }
      objects.set(key, { body: body as Record<string, unknown> })
      return { status: 201, body }
    }
    const object = objects.get(`${kind}/${name}`)
    if (!object) return missing
    if (method === 'DELETE') objects.delete(`${kind}/${name}`)
    if (method === 'PATCH') {
      if (type !== 'application/merge-patch+json') return { status: 415, body: { message: 'unsupported media type' } }
      const { metadata } = body as { metadata: object }
      object.body = { ...object.body, metadata: { ...(object.body.metadata as object), ...metadata } }
    }
    return { status: 200, body: object.body }
  }

  function createJob(body: Job) {
    const problems = validateVolcanoJob(body, { queues: ['default'] })
    if (problems.length > 0) return { status: 422, body: { message: problems.join('; '), reason: 'Invalid' } }
    const { name } = body.metadata
    if (jobs.has(name)) return { status: 409, body: { message: `jobs "${name}" already exists` } }
    const job: DoubleJob = { body, uid: randomUUID(), phase: 'Pending', pods: [], deleting: false }
    jobs.set(name, job)
    void control(job)
    return { status: 201, body: jobView(job) }
  }

  /** What Volcano's controller does with a job, from its first pod to its end. */
  async function control(job: DoubleJob): Promise<void> {
    const [task] = job.body.spec.tasks
    const name = job.body.metadata.name
    job.pods = Array.from({ length: task!.replicas }, (_, rank) => ({
      ...{ name: `${name}-${task!.name}-${rank}`, rank, uid: randomUUID(), process: undefined, status: {} },
    }))
    while (!double.schedules && !job.deleting) await new Promise(resolve => setTimeout(resolve, 5))
    if (job.deleting) return
    for (const pod of job.pods) pod.process = await start(job, pod)
    job.phase = 'Running'
    const failed = Promise.race(
      job.pods.map(pod =>
        pod.process!.ended.then(end => (end.exitCode === 0 ? new Promise<never>(() => {}) : ('failed' as const))),
      ),
    )
    const all = Promise.all(job.pods.map(pod => pod.process!.ended)).then(() => 'done' as const)
    const outcome = await Promise.race([failed, all])
    if (outcome === 'failed' && job.body.spec.policies.some(policy => policy.action === 'TerminateJob')) {
      job.phase = 'Terminating'
      // Pods that have not ended are deleted; those that have are kept, with their logs.
      const grace = task!.template.spec.terminationGracePeriodSeconds
      const running = job.pods.filter(pod => !pod.process!.end)
      await Promise.all(running.map(pod => pod.process!.stop(grace)))
      job.pods = job.pods.filter(pod => !running.includes(pod))
      job.phase = 'Terminated'
    } else job.phase = outcome === 'done' ? 'Completed' : 'Failed'
  }

  async function start(job: DoubleJob, pod: DoublePod): Promise<PodProcess> {
    const { containers, volumes } = job.body.spec.tasks[0]!.template.spec
    const { command, env, volumeMounts } = containers[0]!
    const variables: Record<string, string> = { VC_TASK_INDEX: String(pod.rank), VK_TASK_INDEX: String(pod.rank) }
    for (const { name, value, valueFrom } of env) {
      const secret = valueFrom?.secretKeyRef
      const found = secret && (objects.get(`secrets/${secret.name}`)?.body.stringData as Record<string, string>)
      variables[name] = found?.[secret!.key] ?? (value ?? '').replaceAll('$$', '$')
    }
    for (const { name, mountPath } of volumeMounts) {
      const folder = volumes.find(volume => volume.name === name)?.hostPath?.path
      if (folder === undefined || folder === mountPath) continue
      await mkdir(dirname(mountPath), { recursive: true })
      await symlink(folder, mountPath).catch(() => {})
    }
    return startPod(command, variables)
  }

  function deleteJob(job: DoubleJob, options: DeleteOptions) {
    if (options.preconditions?.uid !== job.uid) return { status: 409, body: { message: 'the UID does not match' } }
    if (options.propagationPolicy !== 'Foreground') return { status: 400, body: { message: 'pods would be orphaned' } }
    job.deleting = true
    const grace = job.body.spec.tasks[0]!.template.spec.terminationGracePeriodSeconds
    void Promise.all(job.pods.map(pod => pod.process?.stop(grace))).then(() => {
      jobs.delete(job.body.metadata.name)
      for (const [key, { body }] of objects) {
        const { ownerReferences = [] } = body.metadata as { ownerReferences?: { uid: string }[] }
        if (ownerReferences.some(owner => owner.uid === job.uid)) objects.delete(key)
      }
    })
    return { status: 200, body: jobView(job) }
  }

  async function sendLog(
    response: ServerResponse,
    {
      name,
      query,
      fault,
    }: { name: string; query: URLSearchParams; fault?: { cutAfterBytes: number; gently?: boolean } | undefined },
  ): Promise<void> {
    const pod = [...jobs.values()].flatMap(job => job.pods).find(pod => pod.name === name)
    if (!pod) return send(response, 404, { message: `pods "${name}" not found` })
    const { process: run } = pod
    if (!run) return send(response, 400, { message: 'container is waiting to start: ContainerCreating' })
    response.writeHead(200, { 'content-type': 'text/plain' })
    // Nodes know whole seconds of it only.
    const since = query.has('sinceTime') ? Math.floor(Date.parse(query.get('sinceTime')!) / 1000) * 1000 : 0
    let [sent, bytes] = [0, 0]
    const isDone = () => response.destroyed || (run.end && sent === run.log.length)
    let wake = () => {}
    run.onLog(() => wake())
    while (!isDone()) {
      for (; sent < run.log.length; sent++) {
        const { time, text, isWhole } = run.log[sent]!
        if (Date.parse(time) < since) continue
        const line = Buffer.from(`${time} ${text}${isWhole ? '\n' : ''}`)
        const left = (fault?.cutAfterBytes ?? Number.POSITIVE_INFINITY) - bytes
        bytes += line.length
        if (line.length < left) {
          response.write(line)
          continue
        }
        await new Promise(resolve => response.write(line.subarray(0, left), resolve))
        return fault?.gently ? void response.end() : void response.destroy()
      }
      if (!isDone())
        await new Promise<void>(resolve => {
          wake = resolve
          response.once('close', resolve)
        })
    }
    response.end()
  }
}

function jobView({ body, uid, phase }: DoubleJob) {
  return { ...body, metadata: { ...body.metadata, uid }, status: { state: { phase } } }
}

function podView({ body }: DoubleJob, { name, rank, uid, process: run, status }: DoublePod) {
  const phase = !run ? 'Pending' : !run.end ? 'Running' : run.end.exitCode === 0 ? 'Succeeded' : 'Failed'
  const state = !run
    ? { waiting: { reason: 'ContainerCreating' } }
    : run.end
      ? { terminated: run.end }
      : { running: {} }
  const unschedulable = {
    ...{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' },
    message: '0/4 nodes are available: 4 Insufficient huawei.com/ascend-1980.',
  }
  return {
    spec: run ? { nodeName: machineOf(body, rank) } : {},
    metadata: {
      name,
      uid,
      labels: { 'volcano.sh/job-name': body.metadata.name, 'volcano.sh/task-index': String(rank) },
    },
    status: { phase, containerStatuses: [{ state }], ...(run ? {} : { conditions: [unschedulable] }), ...status },
  }
}

/** Machines are `machine-0`, `machine-1`, …, of which each pod gets the next that its affinity does not forbid. */
function machineOf({ spec }: Job, rank: number): string {
  const { affinity } = spec.tasks[0]!.template.spec
  const terms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms ?? []
  const forbidden = terms.flatMap(({ matchFields = [] }) => matchFields.flatMap(({ values }) => values))
  const names = Array.from({ length: 9 }, (_, n) => `machine-${n}`).filter(name => !forbidden.includes(name))
  return names[rank]!
}

function kubeconfigOf(server: string) {
  return {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'double' },
    clusters: [{ name: 'double', cluster: { server, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'double', user: { token } }],
    contexts: [{ name: 'double', context: { cluster: 'double', user: 'double', namespace } }],
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return void response.destroy()
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/html' : 'application/json' }).end(text)
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += chunk
  return text
}
