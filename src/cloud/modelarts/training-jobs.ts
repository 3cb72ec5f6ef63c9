import { z } from 'zod'
import { ServiceError } from '../../errors.ts'
import { isNotFound, withAdvice } from '../advice.ts'
import { checkRequest, readAnswer } from '../ask-service.ts'
import type { CloudAnswer, CloudRequest, Transport } from '../transport.ts'
import { JobRequest } from './job-request.ts'
import { TrainingJob } from './training-job.ts'

/** The newest part of a worker's log: at most 5 MB of it, as bytes, because sizes are of bytes. */
export interface LogPreview {
  readonly content: Buffer
  /** Bytes of the log that `content` stands for; other than its length where they are no text. */
  readonly currentSize: number
  /** Bytes of the whole log so far. */
  readonly fullSize: number
}

export interface JobEvent {
  readonly time: string
  readonly message: string
  readonly level?: string | undefined
  readonly source?: string | undefined
}

/** Which jobs are listed. */
export interface ListOptions {
  readonly nameContains?: string | undefined
  /** Default 50. */
  readonly limit?: number | undefined
  /** Default: the default workspace, `0`. */
  readonly workspaceId?: string | undefined
}

/** ModelArts' training jobs, v2. All throw ServiceError, with advice where the code is known. */
export interface TrainingJobs {
  /** Creates a job and gives what the service tells of it. Not repeated when its answer is lost: see `find`. */
  create(job: JobRequest, signal?: AbortSignal): Promise<TrainingJob>
  /** Undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<TrainingJob | undefined>
  /** The newest job of exactly this name; the service itself finds parts of names. */
  find(
    name: string,
    options?: { readonly workspaceId?: string | undefined; readonly signal?: AbortSignal },
  ): Promise<TrainingJob | undefined>
  /** Newest first. */
  list(options?: ListOptions, signal?: AbortSignal): Promise<TrainingJob[]>
  /** Asks for its end; a job that has ended is left alone. */
  stop(id: string, signal?: AbortSignal): Promise<void>
  /** Asks for its removal, which takes some time; one that is gone is left alone. */
  remove(id: string, signal?: AbortSignal): Promise<void>
  /** Undefined as long as the worker has written nothing. */
  logPreview(id: string, task: string, signal?: AbortSignal): Promise<LogPreview | undefined>
  /** Link to the whole log, good for five minutes; undefined as long as there is none. */
  logUrl(id: string, task: string, signal?: AbortSignal): Promise<string | undefined>
  events(id: string, signal?: AbortSignal): Promise<readonly JobEvent[]>
  /** Averages for each minute by name, as `npuUtil`; minutes without a sample are NaN. */
  metrics(id: string, task: string, signal?: AbortSignal): Promise<Readonly<Record<string, readonly number[]>>>
  /** Ids of flavors, as `modelarts.pool.visual.8xlarge`. */
  flavors(type: 'CPU' | 'GPU' | 'Ascend', signal?: AbortSignal): Promise<readonly string[]>
}

const largestPage = 50
const largestEventPage = 100

/** ModelArts' training jobs over `transport`. */
export function trainingJobs(transport: Transport): TrainingJobs {
  async function ask(wanted: Omit<CloudRequest, 'service'>): Promise<CloudAnswer> {
    const project = await transport.projectId(wanted.signal)
    return transport
      .request({ ...wanted, service: 'modelarts', path: ['v2', project, ...wanted.path] })
      .catch(error => Promise.reject(withAdvice(error)))
  }
  const orNone = (error: unknown) => {
    if (isNotFound(error)) return undefined
    throw error
  }

  async function list(options: ListOptions = {}, signal?: AbortSignal): Promise<TrainingJob[]> {
    const { nameContains, limit = largestPage, workspaceId } = options
    const found: TrainingJob[] = []
    // The offset is that of a page, not of a row.
    for (let offset = 0; found.length < limit; offset++) {
      const filters = nameContains === undefined ? [] : [{ key: 'name', operator: 'like', value: [nameContains] }]
      const body = {
        ...{ offset, limit: largestPage, sort_by: 'create_time', order: 'desc', filters },
        ...(workspaceId === undefined ? {} : { workspace_id: workspaceId }),
      }
      const answer = await ask({ method: 'POST', path: ['training-job-searches'], body, isRepeatable: true, signal })
      const { items } = read(z.looseObject({ items: z.array(TrainingJob).nullish() }), answer, 'training-job-searches')
      found.push(...(items ?? []))
      if ((items?.length ?? 0) < largestPage) break
    }
    return found.slice(0, limit)
  }

  return {
    async create(job, signal) {
      const body = checkRequest(JobRequest, job, 'training job')
      const answer = await ask({ method: 'POST', path: ['training-jobs'], body, signal })
      return read(TrainingJob, answer, 'training-jobs')
    },

    get: (id, signal) =>
      ask({ method: 'GET', path: ['training-jobs', id], signal }).then(
        answer => read(TrainingJob, answer, 'training-jobs'),
        orNone,
      ),

    async find(name, { workspaceId, signal } = {}) {
      const found = await list({ nameContains: name, limit: 1000, workspaceId }, signal)
      return found.find(({ metadata }) => metadata.name === name)
    },

    list,

    stop: (id, signal) =>
      ask({
        ...{ method: 'POST', path: ['training-jobs', id, 'actions'], isRepeatable: true, signal },
        body: { action_type: 'terminate' },
      }).then(
        () => undefined,
        error => {
          if (error instanceof ServiceError && error.serviceCode === 'ModelArts.2796') return
          orNone(error)
        },
      ),

    remove: (id, signal) =>
      ask({ method: 'DELETE', path: ['training-jobs', id], signal }).then(() => undefined, orNone),

    async logPreview(id, task, signal) {
      const path = ['training-jobs', id, 'tasks', task, 'logs', 'preview']
      const answer = await ask({ method: 'GET', path, signal }).catch(orNoLog)
      if (!answer || answer.status === 204) return undefined
      const { content, current_size, full_size } = read(Preview, answer, 'logs/preview')
      return { content: Buffer.from(content ?? '', 'utf8'), currentSize: current_size, fullSize: full_size }
    },

    async logUrl(id, task, signal) {
      const path = ['training-jobs', id, 'tasks', task, 'logs', 'url']
      const query = { 'Content-Type': 'application/octet-stream' }
      const answer = await ask({ method: 'GET', path, query, signal }).catch(orNoLog)
      if (!answer || answer.status === 204) return undefined
      return read(z.looseObject({ obs_url: z.string().nullish() }), answer, 'logs/url').obs_url ?? undefined
    },

    async events(id, signal) {
      const all: JobEvent[] = []
      for (;;) {
        const query = { offset: all.length, limit: largestEventPage, order: 'asc' }
        const answer = await ask({ method: 'GET', path: ['training-jobs', id, 'events'], query, signal })
        const { events } = read(z.looseObject({ events: z.array(Event).nullish() }), answer, 'events')
        all.push(...(events ?? []).map(({ time, message, level, source }) => ({ time, message, level, source })))
        if ((events?.length ?? 0) < largestEventPage) return all
      }
    },

    async metrics(id, task, signal) {
      const answer = await ask({ method: 'GET', path: ['training-jobs', id, 'metrics', task], signal })
      if (answer.status === 204) return {}
      const { metrics } = read(z.looseObject({ metrics: z.array(Metric).nullish() }), answer, 'metrics')
      const samples = (value: readonly number[]) => value.map(sample => (sample === -1 ? Number.NaN : sample))
      return Object.fromEntries((metrics ?? []).map(({ metric, value }) => [metric, samples(value)]))
    },

    async flavors(type, signal) {
      const query = { flavor_type: type }
      const answer = await ask({ method: 'GET', path: ['training-job-flavors'], query, signal })
      const Flavors = z.looseObject({ flavors: z.array(z.looseObject({ flavor_id: z.string() })).nullish() })
      return (read(Flavors, answer, 'training-job-flavors').flavors ?? []).map(({ flavor_id }) => flavor_id)
    },
  }
}

const Preview = z.looseObject({
  content: z.string().nullish(),
  current_size: z.coerce.number(),
  full_size: z.coerce.number(),
})
const Event = z.looseObject({
  time: z.string(),
  message: z.string(),
  level: z.string().optional(),
  source: z.string().optional(),
})
const Metric = z.looseObject({ metric: z.string(), value: z.array(z.coerce.number()) })

/** Codes of a log that is not there yet, or no longer, maybe with its job. */
function orNoLog(error: unknown): undefined {
  const codes = ['ModelArts.2775', 'ModelArts.2776', 'ModelArts.2818', 'ModelArts.2820', 'ModelArts.2822']
  if (error instanceof ServiceError && codes.includes(error.serviceCode ?? '')) return undefined
  throw error
}

function read<T extends z.ZodType>(schema: T, answer: CloudAnswer, what: string): z.output<T> {
  return readAnswer(schema, answer, { service: 'modelarts', what })
}
