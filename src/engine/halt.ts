import { CancelledError, DetachedError } from '../errors.ts'

/** How a run is stopped from outside: told once, it aborts `signal` with the error that the run will end with. */
export interface Halt {
  readonly signal: AbortSignal
  cancel(reason?: unknown): void
  detach(): void
}

/** A halt that also follows the user's own signal. */
export function createHalt(outer: AbortSignal | undefined): Halt & { release(): void } {
  const controller = new AbortController()
  const cancel = (reason?: unknown) => {
    if (controller.signal.aborted) return
    const why = reason instanceof Error ? reason.message : reason === undefined ? '' : String(reason)
    controller.abort(
      new CancelledError(why ? `The run was cancelled: ${why}` : 'The run was cancelled.', { cause: reason }),
    )
  }
  const follow = () => cancel(outer?.reason)
  if (outer?.aborted) follow()
  else outer?.addEventListener('abort', follow, { once: true })
  return {
    signal: controller.signal,
    cancel,
    detach: () => {
      if (controller.signal.aborted) return
      controller.abort(
        new DetachedError('The run let go of its jobs.', {
          hint: 'Run the same graph on the same store to follow them.',
        }),
      )
    },
    release: () => outer?.removeEventListener('abort', follow),
  }
}
