import { InputError, ServiceError } from '../errors.ts'
import { type Credentials, type CredentialsSource, withCredentials } from './credentials.ts'
import { type CloudService, type Endpoints, endpointOf } from './endpoints.ts'
import { type Exchanged, exchange, type RepeatOptions, repeat } from './exchange.ts'
import { signRequest } from './sign-request.ts'

/** How Huawei Cloud is spoken to. */
export interface CloudOptions extends RepeatOptions {
  /** For example `cn-southwest-2`. */
  readonly region: string
  readonly credentials: CredentialsSource
  /** Default: asked of IAM, once: the project that has the region's name. */
  readonly projectId?: string
  readonly endpoints?: Endpoints
  /** Longest time of one request, its answer included, in ms; default 30,000. */
  readonly timeoutMs?: number
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

/** Speaks to Huawei Cloud with signed requests, over `fetch`. Nothing is kept but the project's id. */
export function createTransport(options: CloudOptions): Transport {
  const { region, timeoutMs = 30_000 } = options
  let project: Promise<string> | undefined
  // A mistake in what was configured is named at once, before any request.
  endpointOf('modelarts', region, options.endpoints)

  const request = (wanted: CloudRequest): Promise<CloudAnswer> =>
    repeat(() => withCredentials(options.credentials, keys => attempt(wanted, keys)), {
      ...{ retries: options.retries, retryDelayMs: options.retryDelayMs, signal: wanted.signal },
      isRepeatable: wanted.isRepeatable ?? !['POST', 'PATCH'].includes(wanted.method),
    })

  async function attempt(wanted: CloudRequest, keys: Credentials): Promise<CloudAnswer> {
    const { service, method, body, signal } = wanted
    const url = urlOf(wanted, endpointOf(service, region, options.endpoints))
    const unsigned = {
      ...(body === undefined ? {} : { 'content-type': wanted.contentType ?? 'application/json' }),
      ...(service === 'iam' ? {} : { 'x-project-id': await projectId(signal) }),
    }
    const { host: _, ...headers } = await signRequest({ method, url, headers: unsigned, body }, keys, new Date())
    const what = `${service} ${method} ${url.pathname}`
    const answer = await exchange({
      ...{ service, what, method, url, keys, timeoutMs, signal },
      headers: { ...headers, accept: 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    return { status: answer.status, headers: answer.headers, body: parseBody(answer, { what, service }) }
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

function parseBody({ bytes, status }: Exchanged, { what, service }: { what: string; service: CloudService }): unknown {
  if (bytes.length === 0) return undefined
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw new ServiceError(`${what}: ${status} with an answer that is not JSON.`, {
      ...{ service, status, retryable: false, cause },
    })
  }
}
