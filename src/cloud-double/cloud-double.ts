import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { accountRoutes } from './account-routes.ts'
import type { DoubleAnswer, DoubleKeys, DoubleRequest } from './double-request.ts'
import type { DoublePool } from './job-rules.ts'
import { type CloudFault, listenOnLoopback, type Route } from './loopback-server.ts'
import { obsRoutes } from './obs-routes.ts'
import { Refusal } from './refusal.ts'
import type { DoubleKind } from './things.ts'
import { trainingJobRoutes } from './training-job-routes.ts'
import { verifySignature } from './verify-signature.ts'

export interface CloudDoubleOptions {
  /** Keys that are accepted; default one permanent pair, `double.credentials`. */
  readonly keys?: readonly DoubleKeys[]
  readonly projectId?: string
  readonly region?: string
  readonly pools?: readonly DoublePool[]
  /** Names of the buckets that there are; default `bucket`. */
  readonly buckets?: readonly string[]
  /** Whether the user has let ModelArts read OBS, SWR and SFS; default true. */
  readonly isAuthorized?: boolean
  /** Buckets of other accounts, whose names are taken. */
  readonly foreignBuckets?: readonly string[]
  /** Whether the name of a job and the address of an image may be used once only; default true. */
  readonly refusesSameName?: boolean
  /** Answers during which a job is Creating and Pending before it shows as Running; default 2. */
  readonly pollsBeforeRunning?: number
  /** Looks during which a share, a link, a notebook and the like are being made or removed; default 2. */
  readonly pollsBeforeReady?: number
  /** How many of a kind there may be; default any number. */
  readonly quotas?: Partial<Readonly<Record<DoubleKind, number>>>
  /** GiB of each share that files take; default 0. */
  readonly usedGib?: number
  /** The state that a thing comes to, as `303` of a share, instead of being ready. */
  endsAs?(thing: { readonly kind: DoubleKind; readonly name: string }): string | undefined
  /** Bytes of a log that the preview shows at most; default 5 MB, the service's. */
  readonly previewBytes?: number
  /** Variables that the image of jobs sets, `PATH` say; default: the system's own folders as `PATH`. */
  readonly imageEnv?: Readonly<Record<string, string>>
  /** Whether it was the machine's fault that a job failed, which is started anew then if it asks for that; default no. */
  isHardwareFault?(): boolean
  /** What goes wrong with a request; default nothing. Asked once for each. */
  fault?(request: { readonly method: string; readonly path: string }): CloudFault | undefined
  /** What is told instead of a living job's phase, for example `Pending` again or one that nobody knows. */
  disguise?(phase: string): string
}

/** A server on this machine that behaves as ModelArts, SFS Turbo and OBS do. */
export interface CloudDouble extends AsyncDisposable {
  /** `http://127.0.0.1:port`, for `endpoints`: of all services but OBS. */
  readonly url: string
  /** The same of OBS. */
  readonly obsUrl: string
  readonly region: string
  readonly projectId: string
  /** A pair of keys that it accepts. */
  readonly credentials: DoubleKeys
  /** All jobs that were created and not deleted. */
  readonly jobs: readonly { readonly id: string; readonly name: string }[]
  /** All shares, links, targets, tasks, images, notebooks and networks that there are. */
  readonly things: readonly { readonly kind: DoubleKind; readonly id: string; readonly name: string }[]
  readonly buckets: readonly string[]
  /** Content of an object of OBS; undefined when there is none. */
  object(bucket: string, key: string): Buffer | undefined
  /** Puts an object into a bucket. */
  putObject(bucket: string, key: string, bytes: Buffer): void
  /** Requests received so far, as `POST /v2/…`. */
  readonly requests: readonly string[]
  /** Ends its jobs and the server. */
  close(): Promise<void>
}

const ownKeys: DoubleKeys = { ak: 'DOUBLEACCESSKEY', sk: 'double-secret-key' }

/**
 * Starts a double of ModelArts, SFS Turbo and OBS on loopback: it verifies signatures by an implementation of its own, refuses unknown
 * fields, walks through the phases of jobs, runs their commands for real as processes of this machine, and fails where
 * it is told to. Paths are those of this machine: mount a volume where it already is.
 */
export async function startCloudDouble(options: CloudDoubleOptions = {}): Promise<CloudDouble> {
  const { region = 'cn-southwest-2', projectId = '0123456789abcdef0123456789abcdef' } = options
  const keys = options.keys ?? [ownKeys]
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-cloud-'))
  const requests: string[] = []
  let origin = ''
  const pools = options.pools ?? [{ name: 'pool-double', nodes: 4, devicesPerNode: 8 }]
  const refusesSameName = options.refusesSameName ?? true
  const objects = obsRoutes({
    ...{ region, buckets: options.buckets ?? ['bucket'], foreignBuckets: options.foreignBuckets ?? [] },
  })
  const account = accountRoutes({
    ...{ pools, refusesSameName, isAuthorized: options.isAuthorized ?? true, usedGib: options.usedGib ?? 0 },
    ...{ pollsBeforeReady: options.pollsBeforeReady ?? 2, quotas: options.quotas ?? {} },
    endsAs: thing => options.endsAs?.(thing),
    hasBucket: name => objects.buckets.includes(name),
  })
  const jobRoutes = trainingJobRoutes(
    {
      ...{ folder, pools, refusesSameName },
      isAuthorized: () => account.isAuthorized,
      pollsBeforeRunning: options.pollsBeforeRunning ?? 2,
      previewBytes: options.previewBytes ?? 5 * 1024 * 1024,
      imageEnv: options.imageEnv ?? {},
      isHardwareFault: options.isHardwareFault ?? (() => false),
      disguise: options.disguise ?? (phase => phase),
    },
    () => origin,
  )

  async function answer(request: DoubleRequest): Promise<DoubleAnswer> {
    const [first, second, ...rest] = request.url.pathname.split('/').slice(1).map(decodeURIComponent)
    if (first === 'exported-logs') return ranged(await jobRoutes.logBehind(second ?? ''), request.headers.range)
    verifySignature(request, keys, Date.now())
    if (first === 'v3' && second === 'projects') {
      const isHere = request.url.searchParams.get('name') === region
      return { status: 200, body: { projects: isHere ? [{ id: projectId, name: region }] : [] } }
    }
    if (second !== projectId || request.headers['x-project-id'] !== projectId)
      throw new Refusal(404, 'ModelArts.2786', 'The project is not that of the token.')
    const found =
      (first === 'v2' ? await jobRoutes.answer(rest, request) : undefined) ?? account.answer(first ?? '', rest, request)
    if (!found) throw new Refusal(405, 'ModelArts.2803', 'The URI or its method is not supported.')
    return found
  }

  const listen = (route: Route) =>
    listenOnLoopback(route, request => {
      requests.push(`${request.method} ${request.url.pathname}`)
      return options.fault?.({ method: request.method, path: request.url.pathname })
    })
  const [server, obsServer] = await Promise.all([
    listen(answer),
    listen(request => objects.answer(request, keys, Date.now())),
  ])
  origin = server.url

  const close = async () => {
    jobRoutes.stopAll()
    await Promise.all([server.close(), obsServer.close()])
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  return {
    ...{
      url: origin,
      obsUrl: obsServer.url,
      object: objects.content,
      putObject: objects.put,
      region,
      projectId,
      credentials: keys[0] ?? ownKeys,
      requests,
      close,
    },
    get jobs() {
      return jobRoutes.jobs
    },
    get things() {
      return account.things
    },
    get buckets() {
      return objects.buckets
    },
    [Symbol.asyncDispose]: close,
  }
}

function ranged(bytes: Buffer, range: string | undefined): DoubleAnswer {
  const [, from] = /^bytes=(\d+)-$/.exec(range ?? '') ?? []
  const headers = { 'content-type': 'application/octet-stream' }
  if (from === undefined) return { status: 200, body: bytes, headers }
  if (Number(from) >= bytes.length) return { status: 416 }
  return { status: 206, body: bytes.subarray(Number(from)), headers }
}
