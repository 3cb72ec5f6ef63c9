import { JobError } from '../errors.ts'

const networkCodes = new Set([
  ...['ECONNRESET', 'ECONNREFUSED', 'ECONNABORTED', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN', 'ENETUNREACH', 'EHOSTUNREACH'],
  ...['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_SOCKET'],
])

/** True for failures that may pass: an error that says `retryable: true`, a time-out, or a lost connection. */
export function isRetryable(error: unknown): boolean {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { retryable, code } = at as { readonly retryable?: unknown; readonly code?: unknown }
    if (typeof retryable === 'boolean') return retryable
    if (at.name === 'TimeoutError' || (typeof code === 'string' && networkCodes.has(code))) return true
  }
  return false
}

const minuteMs = 60_000

/**
 * How long to wait before the next try, in ms, after `failed` tries of which the last ended with `error`: doubled each
 * time, up to a minute; from a minute up to a quarter of an hour where the failure says `later`. `firstMs` is the call's
 * own wish.
 */
export function retryDelayMs(
  error: unknown,
  { failed, firstMs }: { failed: number; firstMs: number | undefined },
): number {
  const isLater = firstMs === undefined && error instanceof JobError && error.failure?.retry === 'later'
  const [first, most] = isLater ? [minuteMs, 15 * minuteMs] : [firstMs ?? 1_000, minuteMs]
  return Math.min(first * 2 ** (failed - 1), most)
}
