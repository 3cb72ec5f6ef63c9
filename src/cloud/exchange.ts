import { setTimeout as sleep } from 'node:timers/promises'
import { ServiceError } from '../errors.ts'
import type { Credentials } from './credentials.ts'
import { readErrorAnswer } from './error-answer.ts'

/** How requests are repeated. */
export interface RepeatOptions {
  /** Times that a request is repeated that may be; default 4. */
  readonly retries?: number | undefined
  /** Wait before the first repetition, in ms, doubled each time and varied at random; default 500. */
  readonly retryDelayMs?: number | undefined
}

const longestDelayMs = 60_000

/**
 * Makes a request, again where its failure may pass and doing it twice is the same as doing it once. One that was
 * throttled was not carried out, and is always made again; a wait that the service asks for is kept.
 * @throws ServiceError of the last try; the signal's reason.
 */
export async function repeat<T>(
  attempt: () => Promise<T>,
  options: RepeatOptions & { readonly isRepeatable: boolean; readonly signal?: AbortSignal | undefined },
): Promise<T> {
  const { default: pRetry } = await import('p-retry')
  const { retries = 4, retryDelayMs = 500, isRepeatable, signal } = options
  const repeated = (error: unknown) =>
    error instanceof ServiceError && error.retryable && (isRepeatable || error.status === 429)
  return pRetry(attempt, {
    ...{ retries, minTimeout: retryDelayMs, factor: 2, maxTimeout: longestDelayMs, randomize: true },
    ...(signal ? { signal } : {}),
    shouldRetry: ({ error }) => repeated(error),
    onFailedAttempt: async ({ error, retriesLeft }) => {
      const waitMs = error instanceof ServiceError ? retryAfterMs.get(error) : undefined
      if (waitMs && retriesLeft > 0 && repeated(error)) await sleep(waitMs, undefined, signal ? { signal } : {})
    },
  })
}

/** How long a refusal asked us to wait. Beside the errors, because it concerns nobody else. */
const retryAfterMs = new WeakMap<ServiceError, number>()

/** A signed request. */
export interface Exchange {
  readonly service: string
  /** In words, for errors: `modelarts GET /v2/…`. */
  readonly what: string
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array<ArrayBuffer> | undefined
  /** Secrets of which nothing may get into an error. */
  readonly keys: Credentials
  /** Longest time, the answer included, in ms. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** An answer that was received whole and is no refusal. */
export interface Exchanged {
  readonly status: number
  readonly headers: Headers
  readonly bytes: Buffer
}

/** One request and its answer. @throws ServiceError when there is none or it is a refusal; the signal's reason. */
export async function exchange(wanted: Exchange): Promise<Exchanged> {
  const { service, what, method, url, headers, body, timeoutMs, signal } = wanted
  const timeout = AbortSignal.timeout(timeoutMs)
  try {
    const answer = await fetch(url, {
      ...{ method, headers, redirect: 'manual', signal: signal ? AbortSignal.any([signal, timeout]) : timeout },
      ...(body === undefined ? {} : { body }),
    })
    const bytes = Buffer.from(await answer.arrayBuffer())
    if (answer.status >= 300) throw refusal(answer, bytes.toString('utf8'), wanted)
    return { status: answer.status, headers: answer.headers, bytes }
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof ServiceError) throw error
    const why = timeout.aborted ? `no answer within ${timeoutMs} ms` : reasonOf(error)
    throw new ServiceError(`${what}: ${why}.`, {
      ...{ service, retryable: true, cause: error },
      hint: `Is ${url.origin} right, and reachable from here?`,
    })
  }
}

function refusal({ status, headers }: Response, text: string, { service, what, keys }: Exchange): ServiceError {
  const { serviceCode, message, solution, requestId } = readErrorAnswer(withoutSecrets(text, keys), headers)
  const said = [serviceCode, message.replace(/\.$/, '')].filter(Boolean).join(' ')
  const error = new ServiceError(
    `${what}: ${status}${said ? ` ${said}` : ''}${requestId ? ` (request ${requestId})` : ''}.`,
    { service, status, serviceCode, requestId, retryable: status === 429 || status >= 500, hint: solution },
  )
  const seconds = Number(headers.get('retry-after') ?? Number.NaN)
  if (seconds > 0) retryAfterMs.set(error, Math.min(seconds * 1000, longestDelayMs))
  return error
}

/** The gateway repeats what it was sent when a signature is wrong: the token must not come back in a message. */
function withoutSecrets(text: string, { sk, securityToken }: Credentials): string {
  return [sk, securityToken].reduce<string>((clean, secret) => (secret ? clean.replaceAll(secret, '…') : clean), text)
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? ((error.cause as Error | undefined) ?? error) : undefined
  return cause ? `no answer (${(cause as { code?: string }).code ?? cause.message})` : 'no answer'
}
