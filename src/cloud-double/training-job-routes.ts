import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DoubleAnswer, DoubleRequest } from './double-request.ts'
import { type AcceptedJob, acceptJob, type DoublePool, fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { type RunningJob, startJob } from './running-job.ts'

export interface TrainingJobOptions {
  readonly folder: string
  readonly pools: readonly DoublePool[]
  /** Whether the user has let ModelArts read OBS, SWR and SFS. */
  isAuthorized(): boolean
  /** Whether a name may be used once only. */
  readonly refusesSameName: boolean
  /** Answers during which a job is still Creating, then Pending, however soon it runs. */
  readonly pollsBeforeRunning: number
  /** Bytes of a log that the preview shows at most. */
  readonly previewBytes: number
  /** Variables that the image of jobs sets. */
  readonly imageEnv: Readonly<Record<string, string>>
  /** Whether it was the machine's fault that a job failed. */
  isHardwareFault(): boolean
  /** What is told instead of the phase of a living job. */
  disguise(phase: string): string
}

interface StoredJob {
  readonly id: string
  readonly accepted: AcceptedJob
  readonly request: unknown
  readonly createdAt: number
  readonly run: RunningJob
  polls: number
}

/** The routes of training jobs, below `/v2/{project}/`. */
export interface TrainingJobRoutes {
  /** Undefined for a path that is not theirs. */
  answer(path: readonly string[], request: DoubleRequest): Promise<DoubleAnswer | undefined>
  /** What the link to a log leads to. */
  logBehind(token: string): Promise<Buffer>
  readonly jobs: readonly { readonly id: string; readonly name: string }[]
  stopAll(): void
}

const linkLifeMs = 5 * 60_000

export function trainingJobRoutes(options: TrainingJobOptions, origin: () => string): TrainingJobRoutes {
  const jobs = new Map<string, StoredJob>()
  const links = new Map<string, { readonly file: string; readonly until: number }>()

  function create(body: unknown): DoubleAnswer {
    if (!options.isAuthorized()) throw new Refusal(403, 'ModelArts.2785', 'No authorization of this user was found.')
    const accepted = acceptJob(body, options.pools)
    if (options.refusesSameName && [...jobs.values()].some(job => job.accepted.name === accepted.name))
      throw new Refusal(400, 'ModelArts.2751', 'Duplicate training job name.')
    const hex = randomBytes(16).toString('hex')
    const id = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    const run = startJob(accepted, { ...options, id, folder: join(options.folder, id) })
    const job: StoredJob = { id, accepted, request: body, createdAt: Date.now() + jobs.size, run, polls: 0 }
    jobs.set(id, job)
    return { status: 201, body: describe(job) }
  }

  function phaseOf({ run, polls }: StoredJob): string {
    if (polls <= options.pollsBeforeRunning) return polls <= 1 ? 'Creating' : 'Pending'
    if (!run.hasEnded) return run.isStopping ? 'Terminating' : options.disguise('Running')
    if (run.isStopping) return 'Terminated'
    return [...run.exitCodes.values()].every(code => code === 0) ? 'Completed' : 'Failed'
  }

  function describe(job: StoredJob): unknown {
    const phase = phaseOf(job)
    const hasBegun = phase !== 'Creating'
    return {
      kind: 'job',
      metadata: {
        ...{ id: job.id, name: job.accepted.name, description: job.accepted.description },
        workspace_id: job.accepted.workspaceId,
        ...{ create_time: job.createdAt, annotations: job.accepted.annotations },
      },
      status: {
        ...{ phase, secondary_phase: phase, duration: 0, start_time: 0, node_count_metrics: null },
        ...(hasBegun ? { tasks: job.run.tasks } : {}),
        running_records: Array.from({ length: job.run.starts }, (_, at) => {
          return { start_type: at === 0 ? 'init_or_rescheduled' : 'restarted' }
        }),
        task_statuses: [...job.run.exitCodes].map(([task, exit_code]) => ({ task, exit_code, message: '' })),
      },
      algorithm: { command: job.accepted.command },
    }
  }

  function find(id: string | undefined): StoredJob {
    const job = jobs.get(id ?? '')
    if (!job) throw new Refusal(400, 'ModelArts.2775', 'The training job does not exist.')
    return job
  }

  function search(body: unknown): DoubleAnswer {
    const wanted = fields(body, 'search', ['offset', 'limit', 'sort_by', 'order', 'workspace_id', 'filters'])
    const [offset, limit] = [Number(wanted.offset ?? 0), Number(wanted.limit ?? 10)]
    if (!(limit >= 1 && limit <= 50)) throw new Refusal(400, 'ModelArts.2788', 'limit is 1 to 50')
    const workspace = wanted.workspace_id ?? '0'
    let found = [...jobs.values()]
      .filter(({ accepted }) => accepted.workspaceId === workspace)
      .sort((a, b) => b.createdAt - a.createdAt)
    for (const filter of (wanted.filters ?? []) as readonly unknown[]) {
      const { key, operator, value } = fields(filter, 'filter', ['key', 'operator', 'value'])
      if (key !== 'name') throw new Refusal(400, 'ModelArts.2807', `unknown key ${key}`)
      if (operator !== 'like') throw new Refusal(400, 'ModelArts.2808', `unknown operator ${operator}`)
      found = found.filter(({ accepted }) => (value as string[]).some(part => accepted.name.includes(part)))
    }
    // The offset counts pages.
    const items = found.slice(offset * limit, (offset + 1) * limit).map(describe)
    return { status: 200, body: { total: found.length, count: items.length, limit, offset, items } }
  }

  async function log(job: StoredJob, task: string | undefined, what: string | undefined): Promise<DoubleAnswer> {
    if (!job.run.tasks.includes(task ?? '')) throw new Refusal(400, 'ModelArts.2788', `no task ${task}`)
    if (job.polls <= options.pollsBeforeRunning) return { status: 204 }
    if (what === 'url') {
      if (!job.accepted.exportsLog) throw new Refusal(400, 'ModelArts.2822', 'No export path was given.')
      const token = randomBytes(16).toString('hex')
      links.set(token, { file: job.run.logFile(task ?? ''), until: Date.now() + linkLifeMs })
      return { status: 200, body: { obs_url: `${origin()}/exported-logs/${token}` } }
    }
    const whole = wholeCharacters(await readFile(job.run.logFile(task ?? '')))
    // Cut where a character begins, as a JSON string must be.
    let from = Math.max(0, whole.length - options.previewBytes)
    while (from < whole.length && ((whole[from] ?? 0) & 0xc0) === 0x80) from++
    const shown = whole.subarray(from)
    const body = { content: shown.toString('utf8'), current_size: shown.length, full_size: whole.length }
    return { status: 200, body }
  }

  return {
    async answer([resource, id, action, task, ...rest], request) {
      const { method } = request
      const body = () => parse(request.bytes)
      if (resource === 'training-job-searches' && method === 'POST') return search(body())
      if (resource === 'training-job-flavors' && method === 'GET')
        return { status: 200, body: { total_count: 1, flavors: [{ flavor_id: 'modelarts.pool.visual.8xlarge' }] } }
      if (resource !== 'training-jobs') return undefined
      if (id === undefined) return method === 'POST' ? create(body()) : undefined
      const job = find(id)
      if (action === undefined && method === 'GET') {
        job.polls++
        return { status: 200, body: describe(job) }
      }
      if (action === undefined && method === 'DELETE') {
        job.run.stop()
        jobs.delete(id)
        return { status: 202, body: '' }
      }
      if (action === 'actions' && method === 'POST') {
        const { action_type } = fields(body(), 'action', ['action_type'])
        if (action_type !== 'terminate') throw new Refusal(400, 'ModelArts.2788', `action_type ${action_type}`)
        if (job.run.hasEnded) throw new Refusal(409, 'ModelArts.2796', 'The job has ended.')
        job.run.stop()
        return { status: 202, body: describe(job) }
      }
      if (action === 'tasks' && rest[0] === 'logs' && method === 'GET') return log(job, task, rest[1])
      if (action === 'events' && method === 'GET') return { status: 200, body: { total: 0, events: [] } }
      if (action === 'metrics' && method === 'GET') return { status: 204 }
      return undefined
    },
    async logBehind(token) {
      const link = links.get(token)
      if (!link || Date.now() > link.until) throw new Refusal(403, 'AccessDenied', 'The link has expired.')
      return readFile(link.file)
    },
    get jobs() {
      return [...jobs.values()].map(({ id, accepted }) => ({ id, name: accepted.name }))
    },
    stopAll() {
      for (const { run } of jobs.values()) run.stop()
    },
  }
}

/** Without a last character that is not written to its end yet. */
function wholeCharacters(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return bytes
    if (byte < 0xc0) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
    return length > back ? bytes.subarray(0, bytes.length - back) : bytes
  }
  return bytes
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new Refusal(400, 'ModelArts.2787', 'The body is not JSON.')
  }
}
