import { setTimeout as sleep } from 'node:timers/promises'
import { ServiceError } from '../errors.ts'

/** How long something is waited for. */
export interface WaitOptions {
  /** Time between two looks, in ms; default 10,000. */
  readonly pollMs?: number | undefined
  /** Longest wait, in ms; default 30 minutes. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Told of each new state while it is waited for. */
  onState?(state: string): void
}

/** What a state means to one who waits: it is reached, it may still come, or it never will. */
export type Progress = 'reached' | 'coming' | { readonly failed: string; readonly hint?: string | undefined }

/**
 * Looks until `progress` says that it is reached, and gives what was seen then. States that nobody knows are coming.
 * @throws ServiceError when it never will be or the time is over; the signal's reason.
 */
export async function waitUntil<T>(
  wanted: {
    readonly service: string
    /** In words, for errors: `share sfs-train`. */
    readonly what: string
    look(): Promise<T>
    stateOf(seen: T): string
    progress(seen: T): Progress
  },
  options: WaitOptions = {},
): Promise<T> {
  const { service, what } = wanted
  const { pollMs = 10_000, timeoutMs = 30 * 60_000, signal } = options
  const until = Date.now() + timeoutMs
  let last: string | undefined
  for (;;) {
    signal?.throwIfAborted()
    const seen = await wanted.look()
    const [state, progress] = [wanted.stateOf(seen), wanted.progress(seen)]
    if (state !== last) options.onState?.(state)
    last = state
    if (progress === 'reached') return seen
    if (progress !== 'coming')
      throw new ServiceError(`${what}: ${progress.failed}.`, { service, retryable: false, hint: progress.hint })
    if (Date.now() + pollMs > until)
      throw new ServiceError(`${what}: still ${state} after ${Math.round(timeoutMs / 1000)} s.`, {
        ...{ service, retryable: true },
        hint: 'Look at it in the console, and run this again to wait on.',
      })
    await sleep(pollMs, undefined, signal ? { signal } : {})
  }
}
