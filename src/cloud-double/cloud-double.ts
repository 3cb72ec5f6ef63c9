import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DoubleAnswer, type DoubleKeys, type DoubleRequest, receive } from './double-request.ts'
import type { DoublePool } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { trainingJobRoutes } from './training-job-routes.ts'
import { verifySignature } from './verify-signature.ts'

/**
 * What goes wrong with one request: `lost-answer` and `lost-answer-page` do what was asked before they fail (a cut
 * connection, a proxy's page with status 502), the others before anything is done.
 */
export type CloudFault =
  | 'lost-answer'
  | 'lost-answer-page'
  | 'reset'
  | 'throttled'
  | 'throttled-with-wait'
  | 'server-error'
  | 'bad-gateway'
  | 'slow-answer'

export interface CloudDoubleOptions {
  /** Keys that are accepted; default one permanent pair, `double.credentials`. */
  readonly keys?: readonly DoubleKeys[]
  readonly projectId?: string
  readonly region?: string
  readonly pools?: readonly DoublePool[]
  /** Whether the user has let ModelArts read OBS, SWR and SFS; default true. */
  readonly isAuthorized?: boolean
  /** Whether a job's name may be used once only; default true. */
  readonly refusesSameName?: boolean
  /** Answers during which a job is Creating and Pending before it shows as Running; default 2. */
  readonly pollsBeforeRunning?: number
  /** Bytes of a log that the preview shows at most; default 5 MB, the service's. */
  readonly previewBytes?: number
  /** What goes wrong with a request; default nothing. Asked once for each. */
  fault?(request: { readonly method: string; readonly path: string }): CloudFault | undefined
  /** What is told instead of a living job's phase, for example `Pending` again or one that nobody knows. */
  disguise?(phase: string): string
}

/** A server on this machine that behaves as ModelArts does. */
export interface CloudDouble extends AsyncDisposable {
  /** `http://127.0.0.1:port`, for `endpoints`. */
  readonly url: string
  readonly region: string
  readonly projectId: string
  /** A pair of keys that it accepts. */
  readonly credentials: DoubleKeys
  /** All jobs that were created and not deleted. */
  readonly jobs: readonly { readonly id: string; readonly name: string }[]
  /** Requests received so far, as `POST /v2/…`. */
  readonly requests: readonly string[]
  /** Ends its jobs and the server. */
  close(): Promise<void>
}

const ownKeys: DoubleKeys = { ak: 'DOUBLEACCESSKEY', sk: 'double-secret-key' }

/**
 * Starts a double of ModelArts on loopback: it verifies signatures by an implementation of its own, refuses unknown
 * fields, walks through the phases of jobs, runs their commands for real as processes of this machine, and fails where
 * it is told to. Paths are those of this machine: mount a volume where it already is.
 */
export async function startCloudDouble(options: CloudDoubleOptions = {}): Promise<CloudDouble> {
  const { region = 'cn-southwest-2', projectId = '0123456789abcdef0123456789abcdef' } = options
  const keys = options.keys ?? [ownKeys]
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-cloud-'))
  const requests: string[] = []
  let origin = ''
  const jobRoutes = trainingJobRoutes(
    {
      folder,
      pools: options.pools ?? [{ name: 'pool-double', nodes: 4, devicesPerNode: 8 }],
      isAuthorized: options.isAuthorized ?? true,
      refusesSameName: options.refusesSameName ?? true,
      pollsBeforeRunning: options.pollsBeforeRunning ?? 2,
      previewBytes: options.previewBytes ?? 5 * 1024 * 1024,
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
    const found = first === 'v2' ? await jobRoutes.answer(rest, request) : undefined
    if (!found) throw new Refusal(405, 'ModelArts.2803', 'The URI or its method is not supported.')
    return found
  }

  const server = createServer(async (incoming, response) => {
    const request = await receive(incoming).catch(() => undefined)
    if (!request) return void response.destroy()
    requests.push(`${request.method} ${request.url.pathname}`)
    const fault = options.fault?.({ method: request.method, path: request.url.pathname })
    if (fault === 'reset' || (fault && fault in failures)) return failBefore(response, fault as keyof typeof failures)
    const result = await answer(request).catch((error: unknown): DoubleAnswer => {
      if (error instanceof Refusal) return { status: error.status, body: error.body }
      return { status: 500, body: { error_code: 'ModelArts.2950', error_msg: String(error) } }
    })
    if (fault === 'lost-answer') return void response.destroy()
    if (fault === 'lost-answer-page') return failBefore(response, 'bad-gateway')
    send(response, result, { isSlow: fault === 'slow-answer' })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const close = async () => {
    jobRoutes.stopAll()
    server.closeAllConnections()
    await new Promise<void>(resolve => server.close(() => resolve()))
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  return {
    ...{ url: origin, region, projectId, credentials: keys[0] ?? ownKeys, requests, close },
    get jobs() {
      return jobRoutes.jobs
    },
    [Symbol.asyncDispose]: close,
  }
}

function send(
  response: ServerResponse,
  { status, body, headers }: DoubleAnswer,
  { isSlow }: { isSlow: boolean },
): void {
  if (body === undefined) return void response.writeHead(status, headers).end()
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length, ...headers })
  if (!isSlow) return void response.end(bytes)
  response.write(bytes.subarray(0, bytes.length >> 1))
  setTimeout(() => response.end(bytes.subarray(bytes.length >> 1)), 20)
}

function failBefore(response: ServerResponse, fault: keyof typeof failures | 'reset'): void {
  if (fault === 'reset') response.destroy()
  else send(response, failures[fault], { isSlow: false })
}

const failures = {
  throttled: { status: 429, body: { error_code: 'ModelArts.2799', error_msg: 'Too many requests.' } },
  'throttled-with-wait': {
    ...{ status: 429, headers: { 'retry-after': '0.02' } },
    body: { error: { code: 'APIG.0308', message: 'Throttled.' } },
  },
  'server-error': { status: 500, body: { error_code: 'ModelArts.2950', error_msg: 'Internal error.' } },
  'bad-gateway': {
    ...{ status: 502, headers: { 'content-type': 'text/html' } },
    body: Buffer.from('<html><body><h1>502 Bad Gateway</h1></body></html>'),
  },
} satisfies Readonly<Record<string, DoubleAnswer>>

function ranged(bytes: Buffer, range: string | undefined): DoubleAnswer {
  const [, from] = /^bytes=(\d+)-$/.exec(range ?? '') ?? []
  const headers = { 'content-type': 'application/octet-stream' }
  if (from === undefined) return { status: 200, body: bytes, headers }
  if (Number(from) >= bytes.length) return { status: 416 }
  return { status: 206, body: bytes.subarray(Number(from)), headers }
}
