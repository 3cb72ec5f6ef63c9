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
