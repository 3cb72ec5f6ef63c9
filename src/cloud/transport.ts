import { setTimeout as sleep } from 'node:timers/promises'
import { InputError, ServiceError } from '../errors.ts'
import type { Credentials, CredentialsSource } from './credentials.ts'
import { type CloudService, type Endpoints, endpointOf } from './endpoints.ts'
import { readErrorAnswer } from './error-answer.ts'
import { signRequest } from './sign-request.ts'

/** How Huawei Cloud is spoken to. */
export interface CloudOptions {
  /** For example `cn-southwest-2`. */
  readonly region: string
  readonly credentials: CredentialsSource
  /** Default: asked of IAM, once: the project that has the region's name. */
  readonly projectId?: string
  readonly endpoints?: Endpoints
  /** Longest time of one request, its answer included, in ms; default 30,000. */
  readonly timeoutMs?: number
  /** Times that a request is repeated that may be; default 4. */
  readonly retries?: number
  /** Wait before the first repetition, in ms, doubled each time and varied at random; default 500. */
  readonly retryDelayMs?: number
}

/** A request of a service. */
export interface CloudRequest {
  readonly service: CloudService
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Parts of the path; each must be of letters, digits, `.`, `_`, `~` and `-`. */
  readonly path: readonly string[]
  /** Names without a value are left out. */
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  /** Sent as JSON. */
  readonly body?: unknown
  /** Default `application/json`, where there is a body. */
  readonly contentType?: string
  /** True when doing it twice is the same as doing it once; default: all but POST and PATCH. */
  readonly isRepeatable?: boolean
  readonly signal?: AbortSignal | undefined
}

export interface CloudAnswer {
  readonly status: number
  /** Parsed JSON; undefined for an empty body. */
  readonly body: unknown
  readonly headers: Headers
}

/** A way to Huawei Cloud for one region and one project. */
export interface Transport {
  /** @throws ServiceError when the service refuses or does not answer; the signal's reason. */
  request(request: CloudRequest): Promise<CloudAnswer>
  /** The project that paths name. */
  projectId(signal?: AbortSignal): Promise<string>
}

const longestDelayMs = 60_000

/** Speaks to Huawei Cloud with signed requests, over `fetch`. Nothing is kept but the project's id. */
export function createTransport(options: CloudOptions): Transport {
  const { region, timeoutMs = 30_000, retries = 4, retryDelayMs = 500 } = options
  let project: Promise<string> | undefined
  // A mistake in what was configured is named at once, before any request.
  endpointOf('modelarts', region, options.endpoints)

  async function request(wanted: CloudRequest): Promise<CloudAnswer> {
    const { default: pRetry } = await import('p-retry')
    const { signal } = wanted
    const isRepeatable = wanted.isRepeatable ?? !['POST', 'PATCH'].includes(wanted.method)
    const repeated = (error: unknown) =>
      error instanceof ServiceError && error.retryable && (isRepeatable || error.status === 429)
    return pRetry(() => attempt(wanted), {
      ...{ retries, minTimeout: retryDelayMs, factor: 2, maxTimeout: longestDelayMs, randomize: true },
      ...(signal ? { signal } : {}),
      shouldRetry: ({ error }) => repeated(error),
      onFailedAttempt: async ({ error, retriesLeft }) => {
        const waitMs = error instanceof ServiceError ? retryAfterMs.get(error) : undefined
        if (waitMs && retriesLeft > 0 && repeated(error)) await sleep(waitMs, undefined, signal ? { signal } : {})
      },
    })
  }

  async function attempt(wanted: CloudRequest): Promise<CloudAnswer> {
    const { service, method, body, signal } = wanted
    const keys = typeof options.credentials === 'function' ? await options.credentials() : options.credentials
    const url = urlOf(wanted, endpointOf(service, region, options.endpoints))
    const unsigned = {
      ...(body === undefined ? {} : { 'content-type': wanted.contentType ?? 'application/json' }),
      ...(service === 'iam' ? {} : { 'x-project-id': await projectId(signal) }),
    }
    const { host: _, ...headers } = await signRequest({ method, url, headers: unsigned, body }, keys, new Date())
    const what = `${service} ${method} ${url.pathname}`
    const timeout = AbortSignal.timeout(timeoutMs)
    try {
      const answer = await fetch(url, {
        ...{ method, headers: { ...headers, accept: 'application/json' }, redirect: 'manual' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      })
      const text = await answer.text()
      if (answer.status >= 300) throw refusal(answer, { what, text, service, keys })
      return { status: answer.status, headers: answer.headers, body: parseBody(text, { what, service, answer }) }
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof ServiceError) throw error
      const why = timeout.aborted ? `no answer within ${timeoutMs} ms` : reasonOf(error)
      throw new ServiceError(`${what}: ${why}.`, {
        ...{ service, retryable: true, cause: error },
        hint: `Is ${url.origin} right for the region ${region}, and reachable from here?`,
      })
    }
  }

  function projectId(signal?: AbortSignal): Promise<string> {
    if (options.projectId !== undefined) return Promise.resolve(options.projectId)
    project ??= askProject(signal).catch(error => {
      project = undefined
      throw error
    })
    return project
  }

  async function askProject(signal?: AbortSignal): Promise<string> {
    const { body } = await request({
      ...{ service: 'iam', method: 'GET', path: ['v3', 'projects'], query: { name: region }, signal },
    })
    const projects = (body as { readonly projects?: readonly { readonly id?: unknown }[] } | undefined)?.projects
    const id = projects?.[0]?.id
    if (typeof id === 'string') return id
    throw new InputError(`region: the account has no project in '${region}'.`, {
      field: 'region',
      hint: 'Choose a region that the account uses, or name projectId.',
    })
  }

  return { request, projectId }
}

/** How long a refusal asked us to wait. Beside the errors, because it concerns nobody else. */
const retryAfterMs = new WeakMap<ServiceError, number>()

function urlOf({ path, query }: CloudRequest, endpoint: URL): URL {
  for (const part of path)
    if (!/^[\w.~-]+$/.test(part) || part === '.' || part === '..')
      throw new InputError(`'${part}' cannot be part of an address: letters, digits, '.', '_', '~' and '-' can.`)
  const url = new URL(`/${path.join('/')}`, endpoint)
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined) url.searchParams.append(name, String(value))
  // The signature is of a space as %20; URLSearchParams writes it as a plus sign.
  url.search = url.search.replaceAll('+', '%20')
  return url
}

interface Refused {
  readonly what: string
  readonly text: string
  readonly service: CloudService
  readonly keys: Credentials
}

function refusal({ status, headers }: Response, { what, text, service, keys }: Refused): ServiceError {
  const read = readErrorAnswer(withoutSecrets(text, keys), headers)
  const { serviceCode, message, solution, requestId } = read
  const isRetryable = status === 429 || status >= 500
  const said = [serviceCode, message.replace(/\.$/, '')].filter(Boolean).join(' ')
  const error = new ServiceError(
    `${what}: ${status}${said ? ` ${said}` : ''}${requestId ? ` (request ${requestId})` : ''}.`,
    { service, status, serviceCode, requestId, retryable: isRetryable, hint: solution },
  )
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  if (seconds > 0) retryAfterMs.set(error, Math.min(seconds * 1000, longestDelayMs))
  return error
}

/** The gateway repeats what it was sent when a signature is wrong: the token must not come back in a message. */
function withoutSecrets(text: string, { sk, securityToken }: Credentials): string {
  return [sk, securityToken].reduce<string>((clean, secret) => (secret ? clean.replaceAll(secret, '…') : clean), text)
}

function parseBody(
  text: string,
  { what, service, answer }: { what: string; service: CloudService; answer: Response },
): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ServiceError(`${what}: ${answer.status} with an answer that is not JSON.`, {
      ...{ service, status: answer.status, retryable: false, cause },
    })
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? ((error.cause as Error | undefined) ?? error) : undefined
  return cause ? `no answer (${(cause as { code?: string }).code ?? cause.message})` : 'no answer'
}
