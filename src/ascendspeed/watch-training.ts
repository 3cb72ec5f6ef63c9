import type { JobEnd, JobNews, JobWatch, WatchFacts } from '../flow/job-watch.ts'
import type { FailureRetry, JobFailure, LostWork } from '../job-failure.ts'
import type { ModelShape } from '../layout/training-shape.ts'
import { iterationFlops } from '../layout/training-time.ts'
import { collectEvidence, failure } from './classify-failure.ts'
import type { IterationLine } from './iteration-line.ts'
import { type LogLine, parseLogLine } from './log-line.ts'
import { type LossAlarm, lossAlarms } from './loss-alarms.ts'
import { progressWatchdog } from './progress-watchdog.ts'
import { deviceCost, type TrainingFacts, trainingMetrics } from './training-metrics.ts'
import type { Reaction, WatchPolicy } from './watch-policy.ts'

export interface WatchedTraining {
  readonly policy: WatchPolicy
  readonly seqLength: number
  readonly globalBatchSize: number
  /** For TFLOP/s and MFU; absent: not told unless the toolchain prints them. */
  readonly model?: ModelShape | undefined
  /** Iterations between two measurements; absent: none while it trains. */
  readonly evalInterval?: number | undefined
}

/**
 * Watches one training of the toolchain, or of the embedded trainer: metrics, checkpoints, measurements, alarms, hangs,
 * and why it failed, with what that costs.
 *
 * Lines of several nodes may be mixed: only the last rank prints iterations, and one that is printed twice counts once.
 */
export function watchTraining(training: WatchedTraining, facts: WatchFacts): JobWatch {
  const { policy } = training
  const { startedAt, launch, premises } = facts
  const { seqLength, globalBatchSize, model } = training
  const known: TrainingFacts = {
    ...{ seqLength, globalBatchSize, devices: launch.nodes * launch.devicesPerNode },
    flopsPerSample: model && iterationFlops(model, { globalBatchSize: 1, seqLength }),
    ...{ device: premises?.device, pricePerDeviceHour: premises?.pricePerDeviceHour },
  }
  const watchdog = progressWatchdog({ policy, startedAt, evalInterval: training.evalInterval })
  const alarms = lossAlarms(policy)
  const evidence = collectEvidence()
  const progress = trackProgress()
  let number = 0
  // After a warning of a hang, the next one is due when as much time has passed again.
  let postponed = 0

  const iterated = (line: IterationLine, at: number): readonly JobNews[] => {
    if (!progress.iteration(line, at)) return []
    evidence.survived()
    postponed = 0
    const metrics = trainingMetrics(line, known, { paceMs: progress.paceMs(), ranMs: at - startedAt })
    const values = metrics as unknown as Readonly<Record<string, number>>
    return [{ type: 'metrics', values }, ...alarms(line).map(alarm => raise(alarm, at))]
  }
  const raise = ({ about, text, reaction }: LossAlarm, at: number): JobNews =>
    reaction === 'warn'
      ? { type: 'warning', about, text }
      : stop(failure('diverged', { cause: text, retry: retryOf(reaction) }), at)
  const stop = (found: JobFailure, at: number): JobNews => ({ type: 'stop', failure: withLoss(found, at) })
  const withLoss = (found: JobFailure, at: number): JobFailure => {
    const lost = progress.lost(at)
    return lost ? { ...found, lost: { ...lost, ...deviceCost(lost.seconds * 1_000, known) } } : found
  }

  return {
    read: job => {
      const { text, at } = job
      number++
      const line = parseLogLine(text)
      watchdog.read(line, at)
      if (line?.kind === 'iteration') return iterated(line.iteration, at)
      // What says that all is well is no evidence, whatever its path is called.
      if (line?.kind !== 'checkpoint' && line?.kind !== 'validation') evidence.note(job, number)
      if (line) progress.other(line, at)
      return newsOf(line)
    },
    dueAt: () => (policy.hang === 'ignore' ? undefined : Math.max(watchdog.dueAt(), postponed)),
    overdue: at => {
      const text = watchdog.describe(at)
      if (policy.hang === 'warn') {
        postponed = at + policy.hangSeconds * 1_000
        return [{ type: 'warning', about: 'hang', text }]
      }
      // One rank that failed leaves the others waiting: then that is what happened.
      const seen = evidence.judge({ state: 'failed' })
      const isRoot = seen.evidence !== undefined && seen.kind !== 'hccl-timeout' && seen.kind !== 'unknown'
      const found = isRoot ? seen : failure('hang', { cause: text, retry: retryOf(policy.hang) })
      return [stop(found, at)]
    },
    diagnose: (end: JobEnd) => withLoss(evidence.judge(end), end.at),
  }
}

/** Watches a job of the toolchain that does not train: what it warns of, and why it failed. */
export function watchTool({ startedAt }: WatchFacts, { silenceSeconds = 3_600 }: WatchToolOptions = {}): JobWatch {
  const evidence = collectEvidence()
  let number = 0
  let last = startedAt
  return {
    read: line => {
      evidence.note(line, ++number)
      last = Math.max(last, line.at)
      return newsOf(parseLogLine(line.text))
    },
    dueAt: () => last + silenceSeconds * 1_000,
    overdue: at => {
      const seen = evidence.judge({ state: 'failed' })
      const cause = `it printed nothing for ${Math.round((at - last) / 1_000)} s`
      return [{ type: 'stop', failure: seen.evidence ? seen : failure('hang', { cause }) }]
    },
    diagnose: end => evidence.judge(end),
  }
}

export interface WatchToolOptions {
  /** A longer silence than this is a hang: a converter whose saver died waits for ever. Default 3,600. */
  readonly silenceSeconds?: number | undefined
}

const retryOf = (reaction: Reaction): FailureRetry => (reaction === 'retry' ? 'now' : 'never')

function newsOf(line: LogLine | undefined): readonly JobNews[] {
  switch (line?.kind) {
    case 'checkpoint':
      return [{ type: 'checkpoint', state: line.state, iteration: line.iteration, path: line.path }]
    case 'validation':
      return [{ type: 'validation', ...line.validation }]
    case 'warning':
      return [{ type: 'warning', about: 'log', text: line.text }]
    default:
      return nothing
  }
}

const nothing: readonly JobNews[] = []

/** Iterations whose mean is the pace. */
const paceOver = 20

/** How far a training is, and how far its newest checkpoint. */
function trackProgress() {
  let done: number | undefined
  let saved: number | undefined
  let lastAt: number | undefined
  const recent: number[] = []
  let sum = 0
  const paceMs = () => (recent.length === 0 ? undefined : sum / recent.length)
  return {
    /** False for an iteration that was read before. */
    iteration({ iteration, elapsedMsPerIteration }: IterationLine, at: number): boolean {
      if (done !== undefined && iteration <= done) return false
      saved ??= iteration - 1
      done = iteration
      lastAt = at
      if (elapsedMsPerIteration) {
        recent.push(elapsedMsPerIteration)
        sum += elapsedMsPerIteration - (recent.length > paceOver ? recent.shift()! : 0)
      }
      return true
    },
    other(line: LogLine, at: number): void {
      if (line.kind === 'checkpoint' && line.state === 'saved') {
        saved = line.iteration
        lastAt = at
      }
      if (line.kind === 'checkpoint' && line.state === 'loaded') saved ??= line.iteration
      // A launcher that starts its program again begins at the newest checkpoint.
      if (line.kind === 'training') done = undefined
    },
    paceMs,
    lost(at: number): Omit<LostWork, 'deviceHours' | 'price'> | undefined {
      if (done === undefined) return undefined
      const iterations = Math.max(0, done - (saved ?? 0))
      const silent = Math.max(0, at - (lastAt ?? at))
      return { iterations, seconds: (iterations * (paceMs() ?? 0) + silent) / 1_000 }
    },
  }
}
