import { InputError, ServiceError } from '../errors.ts'

/** What signs requests to Huawei Cloud. Never part of a log line, an event, an error, a key or a record. */
export interface Credentials {
  /** Access key id (AK). */
  readonly ak: string
  /** Secret access key (SK). */
  readonly sk: string
  /** Of temporary keys; sent and signed with each request. */
  readonly securityToken?: string | undefined
  /** When temporary keys end, in ms since 1970; absent for permanent ones. */
  readonly expiresAt?: number | undefined
}

/**
 * Credentials, or a function that gives those of the moment. It is asked before every request, and once more when a
 * request was refused for its keys: with those keys, in case it keeps them.
 */
export type CredentialsSource = Credentials | ((refused?: Credentials) => Promise<Credentials>)

/**
 * Makes a request with the credentials of the moment; when they are refused and others have taken their place, as they do
 * when temporary ones end, once more with those. A request that is refused so was not carried out.
 */
export async function withCredentials<T>(
  source: CredentialsSource,
  request: (keys: Credentials) => Promise<T>,
): Promise<T> {
  if (typeof source !== 'function') return request(source)
  const keys = await source()
  try {
    return await request(keys)
  } catch (error) {
    if (!refusesKeys(error)) throw error
    const others = await source(keys)
    if (isSamePair(others, keys)) throw error
    return request(others)
  }
}

/** Codes of OBS, and of ModelArts for a token, beside the gateway's status 401. */
const refusals = ['ExpiredToken', 'InvalidSecurityToken', 'InvalidAccessKeyId', 'ModelArts.2784']

function refusesKeys(error: unknown): boolean {
  if (!(error instanceof ServiceError)) return false
  const { status, serviceCode } = error
  // The answer to a HEAD has no body to say why.
  return status === 401 || (serviceCode === undefined ? status === 403 : refusals.includes(serviceCode))
}

function isSamePair(a: Credentials, b: Credentials): boolean {
  return a.ak === b.ak && a.securityToken === b.securityToken
}

/** Names under which tools of Huawei Cloud look for keys: the SDKs' first, then Terraform's. */
const variables = {
  ak: ['HUAWEICLOUD_SDK_AK', 'HW_ACCESS_KEY'],
  sk: ['HUAWEICLOUD_SDK_SK', 'HW_SECRET_KEY'],
  securityToken: ['HUAWEICLOUD_SDK_SECURITY_TOKEN', 'HW_SECURITY_TOKEN'],
} as const

/**
 * Credentials from the environment variables that it is given: `HUAWEICLOUD_SDK_AK`,
 * `HUAWEICLOUD_SDK_SK` and `HUAWEICLOUD_SDK_SECURITY_TOKEN`, or Terraform's `HW_ACCESS_KEY`, `HW_SECRET_KEY` and
 * `HW_SECURITY_TOKEN`.
 * @throws InputError naming the variables when one of the keys is missing.
 */
export function credentialsFrom(env: Readonly<Record<string, string | undefined>>): Credentials {
  const read = (names: readonly string[]) => names.map(name => env[name]?.trim()).find(Boolean)
  const [ak, sk, securityToken] = [read(variables.ak), read(variables.sk), read(variables.securityToken)]
  if (ak && sk) return { ak, sk, ...(securityToken ? { securityToken } : {}) }
  const missing = [...(ak ? [] : [variables.ak]), ...(sk ? [] : [variables.sk])].map(names => names.join(' or '))
  throw new InputError(`The environment has no ${missing.join(' and no ')}.`, {
    field: 'credentials',
    hint: 'Make an access key on the page "My Credentials" of the console and set both of its parts.',
  })
}

export interface MetadataCredentialsOptions {
  /** Default: the address that every Huawei Cloud server answers itself. */
  readonly url?: string
  /** Longest wait for an answer, in ms; default 5,000. */
  readonly timeoutMs?: number
}

/** Keys are fetched anew when they have less than this to live. */
const renewBeforeMs = 5 * 60_000

/**
 * The temporary keys of the agency that the server we run on was given, renewed five minutes before they end, or when
 * they are refused before.
 * @throws ServiceError when there is no such address here, or no agency.
 */
export function metadataCredentials(
  options: MetadataCredentialsOptions = {},
): (refused?: Credentials) => Promise<Credentials> {
  const { url = 'http://169.254.169.254/openstack/latest/securitykey', timeoutMs = 5_000 } = options
  let current: Credentials | undefined
  let asking: Promise<Credentials> | undefined
  return async refused => {
    if (current && refused && isSamePair(current, refused)) current = undefined
    if (current && (current.expiresAt ?? 0) - Date.now() > renewBeforeMs) return current
    // Those who ask at the same time share one answer.
    asking ??= fetchKeys(url, timeoutMs).finally(() => {
      asking = undefined
    })
    current = await asking
    return current
  }
}

async function fetchKeys(url: string, timeoutMs: number): Promise<Credentials> {
  const refuse = (found: string, cause?: unknown): never => {
    throw new ServiceError(`${url}: ${found}.`, {
      ...{ service: 'metadata', retryable: true, cause },
      hint: 'Keys come from there only on a server of Huawei Cloud that was given an agency; else pass credentials.',
    })
  }
  const answer = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), redirect: 'error' }).catch(cause =>
    refuse('no answer', cause),
  )
  if (answer.status !== 200) return refuse(`answered with status ${answer.status}`)
  const { credential } = ((await answer.json().catch(cause => refuse('the answer is not JSON', cause))) ?? {}) as {
    readonly credential?: Readonly<Record<string, unknown>>
  }
  const { access, secret, securitytoken, expires_at } = credential ?? {}
  const expiresAt = Date.parse(String(expires_at))
  if (typeof access !== 'string' || typeof secret !== 'string' || typeof securitytoken !== 'string')
    return refuse('the answer has no keys')
  return { ak: access, sk: secret, securityToken: securitytoken, ...(expiresAt > 0 ? { expiresAt } : {}) }
}
