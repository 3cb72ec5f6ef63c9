/** What producers get: a way to give values, to start others beside them, and a signal to stop at. */
export interface Producing<T> {
  /** Resolves when the value was taken: nothing is stored. */
  give(value: T): Promise<void>
  spawn(task: () => Promise<void>): void
  readonly signal: AbortSignal
}

/**
 * One stream of what several producers give, each in its own order. Ends when all have ended; the first error ends it
 * and them, and so does leaving the loop.
 */
export async function* interleave<T>(
  signal: AbortSignal,
  start: (producing: Producing<T>) => Promise<void>,
): AsyncGenerator<T> {
  const left = new AbortController()
  const waiting: { readonly value: T; taken(): void; refuse(reason: unknown): void }[] = []
  let running = 0
  let failure: { readonly error: unknown } | undefined
  let wake = () => {}
  const producing: Producing<T> = {
    signal: AbortSignal.any([signal, left.signal]),
    give: value =>
      new Promise((taken, refuse) => {
        if (producing.signal.aborted) return refuse(producing.signal.reason)
        waiting.push({ value, taken, refuse })
        wake()
      }),
    spawn: task => {
      running++
      task()
        .catch(error => {
          failure ??= { error }
        })
        .finally(() => {
          running--
          wake()
        })
    },
  }
  const wakeUp = () => wake()
  signal.addEventListener('abort', wakeUp)
  try {
    producing.spawn(() => start(producing))
    for (;;) {
      signal.throwIfAborted()
      if (failure) throw failure.error
      const [next] = waiting
      if (next) {
        yield next.value
        waiting.shift()
        next.taken()
      } else if (running === 0) return
      else
        await new Promise<void>(resolve => {
          wake = resolve
        })
    }
  } finally {
    signal.removeEventListener('abort', wakeUp)
    left.abort()
    for (const { refuse } of waiting) refuse(left.signal.reason)
  }
}
