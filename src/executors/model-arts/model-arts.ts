import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobRequest, Volume } from '../../cloud/modelarts/job-request.ts'
import { endOf, stateOf, type TrainingJob } from '../../cloud/modelarts/training-job.ts'
import { type TrainingJobs, trainingJobs } from '../../cloud/modelarts/training-jobs.ts'
import { type CloudOptions, createTransport } from '../../cloud/transport.ts'
import { InputError, JobError, ServiceError } from '../../errors.ts'
import type { Executor, JobHandle, JobState } from '../../flow/executor.ts'
import type { Launch } from '../../flow/launch.ts'
import { jobCommand, type ModelArtsMount } from './job-command.ts'
import { followLog, type JobLog } from './job-log.ts'

export interface ModelArtsOptions extends CloudOptions {
  /** `organisation/name:tag` in the region's SWR, without the registry's host. */
  readonly image: string
  /** Dedicated pool, as `pool-…`; absent: the shared pool, which has no volumes. */
  readonly poolId?: string
  /** Default: `modelarts.pool.visual.…` for the devices of the launch. */
  readonly flavorId?: string
  /** NPUs of one node; default 8. */
  readonly devicesPerNode?: number
  /** Nodes that one job may have; absent: any number. */
  readonly maxNodes?: number
  /** Volumes; all paths of a launch, and the store, must be on one. */
  readonly mounts?: readonly ModelArtsMount[]
  /** Where logs are kept: `/bucket/folder/`. Without it, output beyond 5 MB between two looks is not seen. */
  readonly logFolder?: string
  /** Default `0`, the default workspace. */
  readonly workspaceId?: string
  /** Times that ModelArts itself restarts the job after a fault of its hardware, 1 to 3; default: never. */
  readonly restarts?: number
  /** 1 (default) to 3, in a dedicated pool. */
  readonly priority?: number
  /** Hours after which ModelArts ends the job. */
  readonly maxHours?: number
  /** Time between two looks at a job, in ms; default 10,000. */
  readonly pollMs?: number
  /** How long a job is followed on while the service does not answer, in ms; default 30 minutes. */
  readonly patienceMs?: number
}

const name = 'modelarts'

interface ModelArtsJob extends JobHandle {
  readonly jobId: string
  readonly jobName: string
  readonly nodes: number
}

/**
 * Runs jobs as training jobs of ModelArts Standard, with an image of one's own.
 *
 * A job is created once: its name holds its id, and when the answer to its creation is lost it is found by that name.
 * Output is that of the last node, where AscendSpeed prints its iterations; when the job fails, the ends of the logs of
 * the nodes that failed follow.
 */
export function modelArts(options: ModelArtsOptions): Executor {
  const { pollMs = 10_000, patienceMs = 30 * 60_000 } = options
  const jobs = trainingJobs(createTransport(options))

  return {
    name,
    devicesPerNode: options.devicesPerNode ?? 8,
    ...(options.maxNodes === undefined ? {} : { maxNodes: options.maxNodes }),
    describe: launch => JSON.stringify(requestOf(launch, 'NAME', options), null, 2),

    async submit(launch, { id, logDir, signal }) {
      const jobName = nameOf(id, logDir)
      const request = requestOf(launch, jobName, options)
      const job = await createOnce(jobs, request, { signal, pollMs })
      return { executor: name, id, jobId: job.metadata.id, jobName, nodes: launch.nodes } satisfies ModelArtsJob
    },

    async *watch(handle, { signal }) {
      const { jobId, nodes } = handle as ModelArtsJob
      const log = followLog(jobs, { id: jobId, task: `worker-${nodes - 1}` })
      let last: JobState | undefined
      let quietSince = Date.now()
      for (;;) {
        try {
          // First its state, then its output: what is written before the end is read before the end is told.
          const job = await jobs.get(jobId, signal)
          const state = job ? stateOf(job) : 'lost'
          const hasEnded = !['pending', 'running'].includes(state)
          for await (const line of drain(log, hasEnded, { pollMs, signal })) yield { type: 'log', line }
          quietSince = Date.now()
          if (hasEnded) {
            if (job && state === 'failed') for (const line of await failedNodes(jobs, job, nodes, signal)) yield line
            const reason = job ? undefined : 'it was deleted'
            yield { type: 'state', state, ...(job ? exitOf(job, state) : {}), ...(reason ? { reason } : {}) }
            return
          }
          if (state !== last) yield { type: 'state', state }
          last = state
        } catch (error) {
          // The job goes on while nobody can look at it.
          if (!(error instanceof ServiceError && error.retryable) || Date.now() - quietSince > patienceMs) throw error
        }
        await sleep(pollMs, undefined, { signal })
      }
    },

    async cancel(handle) {
      const { jobId, jobName } = handle as ModelArtsJob
      await jobs.stop(jobId)
      const until = Date.now() + patienceMs
      while (Date.now() < until) {
        const job = await jobs.get(jobId)
        if (!job || !['pending', 'running'].includes(stateOf(job))) return
        await sleep(pollMs)
      }
      throw new JobError(`Job ${jobName} on ${name} was told to end and has not within ${patienceMs / 60_000} min.`, {
        ...{ executor: name, job: jobName, retryable: true, logTail: [] },
      })
    },
  }
}

/** Ids are unique in a store only; its folder makes them unique among stores. */
function nameOf(id: string, logDir: string): string {
  const suffix = createHash('sha256').update(logDir).digest('hex').slice(0, 8)
  return `${id.replaceAll(/[^\w-]/g, '_').slice(-(64 - 1 - suffix.length))}-${suffix}`
}

function requestOf(launch: Launch, jobName: string, options: ModelArtsOptions): JobRequest {
  const { image, poolId, mounts = [], logFolder, workspaceId, restarts, priority, maxHours } = options
  const flavorId = options.flavorId ?? flavorFor(launch.devicesPerNode)
  const annotations = { 'fault-tolerance/job-retry-num': `${restarts}`, 'fault-tolerance/hang-retry': 'true' }
  return {
    kind: 'job',
    metadata: {
      name: jobName,
      ...(workspaceId === undefined ? {} : { workspace_id: workspaceId }),
      ...(restarts === undefined ? {} : { annotations }),
    },
    algorithm: { engine: { image_url: image }, command: jobCommand(launch, mounts) },
    spec: {
      resource: {
        ...(poolId === undefined ? {} : { pool_id: poolId }),
        ...(flavorId === undefined ? {} : { flavor_id: flavorId }),
        node_count: launch.nodes,
      },
      ...(mounts.length > 0 ? { volumes: mounts.map(volumeOf) } : {}),
      ...(logFolder === undefined ? {} : { log_export_path: { obs_url: logFolder } }),
      ...(priority === undefined ? {} : { schedule_policy: { priority } }),
      ...(maxHours === undefined ? {} : { auto_stop: { time_unit: 'HOURS', duration: maxHours } }),
    },
  }
}

/** Flavors of dedicated NPU pools, by devices; a job without devices names none. */
function flavorFor(devices: number): string | undefined {
  if (devices === 0) return undefined
  const size = [1, 2, 4, 8, 16].find(each => each >= devices)
  if (size !== undefined) return `modelarts.pool.visual.${size === 1 ? '' : size}xlarge`
  throw new InputError(`${devices} devices in one node: ModelArts has flavors of up to 16.`, {
    field: 'devicesPerNode',
  })
}

function volumeOf({ local, at = local, nfs, obs, pfs, readOnly }: ModelArtsMount): Volume {
  if (nfs !== undefined && obs === undefined && pfs === undefined)
    return { nfs: { nfs_server_path: nfs, local_path: at, ...(readOnly ? { read_only: true } : {}) } }
  if (obs !== undefined && nfs === undefined && pfs === undefined) return { obs: { obs_path: obs, local_path: at } }
  if (pfs !== undefined && nfs === undefined && obs === undefined) return { pfs: { pfs_path: pfs, local_path: at } }
  throw new InputError(`mounts: ${local} must name exactly one of nfs, obs and pfs.`, { field: 'mounts' })
}

const creations = 5

/** Creates the job, or takes the one of its name: no answer to a creation does not mean that there was none. */
async function createOnce(
  jobs: TrainingJobs,
  request: JobRequest,
  { signal, pollMs }: { readonly signal: AbortSignal; readonly pollMs: number },
): Promise<TrainingJob> {
  for (let tries = 1; ; tries++) {
    const found = await jobs.find(request.metadata.name, signal)
    if (found) return found
    try {
      return await jobs.create(request, signal)
    } catch (error) {
      if (!(error instanceof ServiceError) || tries === creations) throw error
      // Another of the same name: created by the request whose answer was lost, and not listed yet.
      const isThere = error.serviceCode === 'ModelArts.2751'
      if (!isThere && !error.retryable) throw error
      await sleep(pollMs, undefined, { signal })
    }
  }
}

/** New lines, each as soon as it is there; of a job that has ended, until nothing more comes. */
async function* drain(
  log: JobLog,
  hasEnded: boolean,
  { pollMs, signal }: { readonly pollMs: number; readonly signal: AbortSignal },
): AsyncGenerator<string> {
  yield* await log.lines(signal)
  if (!hasEnded) return
  for (let idle = 0; idle < 2; ) {
    const more = await log.lines(signal)
    yield* more
    idle = more.length === 0 ? idle + 1 : 0
    if (idle < 2) await sleep(pollMs, undefined, { signal })
  }
  const rest = log.rest()
  if (rest) yield rest
}

const tailLines = 40

/** The last lines of the nodes that failed, but for the one whose output was told already. */
async function failedNodes(jobs: TrainingJobs, job: TrainingJob, nodes: number, signal: AbortSignal) {
  const updates: { readonly type: 'log'; readonly line: string; readonly node: number }[] = []
  for (const { task, exit_code } of job.status?.task_statuses ?? []) {
    const node = Number(/^worker-(\d+)$/.exec(task ?? '')?.[1] ?? Number.NaN)
    if (!exit_code || !task || !(node < nodes - 1)) continue
    const preview = await jobs.logPreview(job.metadata.id, task, signal)
    const lines = preview?.content.toString('utf8').trimEnd().split('\n') ?? []
    for (const line of lines.slice(-tailLines)) updates.push({ type: 'log', line, node })
  }
  return updates
}

function exitOf(job: TrainingJob, state: JobState): { readonly exitCode?: number; readonly reason?: string } {
  return state === 'succeeded' ? { exitCode: 0 } : state === 'failed' ? endOf(job) : {}
}
