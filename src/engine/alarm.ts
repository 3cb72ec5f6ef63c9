/** A timer whose time moves. */
export interface Alarm {
  /** Looks at when it is due anew. */
  set(): void
  clear(): void
}

const longestTimerMs = 2 ** 31 - 1
/** One that stays due rings once a second. */
const againMs = 1_000

/** Calls `ring` once the time that `dueAt` gives (in ms since 1970; undefined: never) has passed. */
export function createAlarm(dueAt: () => number | undefined, ring: (at: number) => void): Alarm {
  let timer: NodeJS.Timeout | undefined
  let setFor: number | undefined
  const clear = () => {
    clearTimeout(timer)
    setFor = undefined
  }
  const set = (soonestMs = 0) => {
    const due = dueAt()
    if (due === setFor) return
    clear()
    setFor = due
    if (due === undefined) return
    timer = setTimeout(
      () => {
        setFor = undefined
        const isDue = (dueAt() ?? Infinity) <= Date.now()
        if (isDue) ring(Date.now())
        set(isDue ? againMs : 0)
      },
      Math.min(longestTimerMs, Math.max(soonestMs, due - Date.now())),
    )
  }
  return { set: () => set(), clear }
}
