import type { LogLine } from './log-line.ts'
import type { WatchPolicy } from './watch-policy.ts'

/** Knows from a training's lines how long the next sign of progress may take. */
export interface ProgressWatchdog {
  /** Takes one line, understood or not, that was read at `at` ms. */
  read(line: LogLine | undefined, at: number): void
  /** When the job counts as hung, in ms. */
  dueAt(): number
  /** What it was doing and how long nothing came of it, for people. */
  describe(at: number): string
}

export interface WatchdogOptions {
  readonly policy: Pick<WatchPolicy, 'hangIterations' | 'hangSeconds' | 'startSeconds' | 'pauseSeconds'>
  /** When the job began, in ms. */
  readonly startedAt: number
  /** Iterations between two measurements, which are not announced; absent: none. */
  readonly evalInterval?: number | undefined
}

/** Iterations that the learned time is the median of. */
const remembered = 20

/**
 * A watchdog for Megatron's output. While it starts, any line is progress; while it trains, only an iteration or a
 * checkpoint is, for warnings and retries go on in a job that hangs. Saving, measuring and ending have a time of their own.
 */
export function progressWatchdog({ policy, startedAt, evalInterval }: WatchdogOptions): ProgressWatchdog {
  const [start, pause, floor] = [policy.startSeconds, policy.pauseSeconds, policy.hangSeconds].map(s => s * 1_000) as [
    number,
    number,
    number,
  ]
  let doing: 'starting' | 'training' | 'measuring' | 'saving' | 'ending' = 'starting'
  let since = startedAt
  let lines = 0
  let iteration = 0
  let times: number[] = []
  // Time runs forwards, whatever the clocks of the machines say.
  const seen = (at: number) => {
    since = Math.max(since, at)
  }
  const learned = () => median(times) ?? 0
  const allowance = () => {
    if (doing === 'starting') return start
    if (doing === 'saving' || doing === 'ending') return pause
    const silence = Math.max(lines < 2 ? start : floor, policy.hangIterations * learned())
    return doing === 'measuring' ? Math.max(pause, silence) : silence
  }
  return {
    read: (line, at) => {
      switch (line?.kind) {
        case 'iteration': {
          const { elapsedMsPerIteration, iteration: now } = line.iteration
          // An interval's line comes once in all its iterations.
          const covered = Math.max(1, lines > 0 ? now - iteration : 1)
          if (elapsedMsPerIteration !== undefined && elapsedMsPerIteration > 0)
            if (times.push(elapsedMsPerIteration * covered) > remembered) times.shift()
          iteration = now
          lines++
          doing = evalInterval !== undefined && now % evalInterval === 0 ? 'measuring' : 'training'
          seen(at)
          break
        }
        case 'checkpoint':
          if (line.state !== 'loaded') doing = line.state === 'saving' ? 'saving' : 'training'
          seen(at)
          break
        case 'validation':
          if (doing !== 'ending') doing = 'training'
          seen(at)
          break
        case 'training':
          lines = 0
          times = []
          doing = 'training'
          seen(at)
          break
        case 'ending':
          doing = 'ending'
          seen(at)
          break
        default:
          if (doing === 'starting' || doing === 'ending') seen(at)
      }
    },
    dueAt: () => since + allowance(),
    describe: at => {
      const silent = `for ${seconds(at - since)}`
      if (doing === 'starting') return `it printed nothing ${silent} while it started`
      if (doing === 'saving') return `it has been saving a checkpoint ${silent}`
      if (doing === 'ending') return `it printed nothing ${silent} after its last iteration`
      const pace = times.length === 0 ? '' : `; one takes ${seconds(learned())}`
      return `no iteration was done ${silent} after iteration ${iteration}${pace}`
    },
  }
}

function median(values: readonly number[]): number | undefined {
  return [...values].sort((a, b) => a - b)[values.length >> 1]
}

const seconds = (ms: number) => (ms < 10_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`)
