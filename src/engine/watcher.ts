import type { Body } from '../flow/call.ts'
import type { Premises } from '../flow/estimate.ts'
import type { JobUpdate } from '../flow/executor.ts'
import type { JobEnd, JobNews, JobWatch } from '../flow/job-watch.ts'
import type { JobFailure } from '../job-failure.ts'
import type { JobNote } from './job-note.ts'

/** A step's watch over one job, with its news as events. */
export interface Watcher {
  /** Aborted, with the failure as its reason, when the watch wants the job stopped. */
  readonly stopped: AbortSignal
  /** The job runs: time counts from now. */
  begin(): void
  read(line: Extract<JobUpdate, { type: 'log' }>): Promise<void>
  dueAt(): number | undefined
  overdue(at: number): void
  /** Undefined where the step does not watch its jobs. */
  diagnose(end: Omit<JobEnd, 'at'>): JobFailure | undefined
}

export interface WatcherOptions {
  readonly body: Extract<Body, { kind: 'job' }>
  readonly input: Readonly<Record<string, unknown>>
  readonly note: JobNote
  readonly premises: Premises | undefined
}

/** A piece of news as an event that does not yet say of which call it is. */
export type Untold = { readonly [N in JobNews as N['type']]: Omit<N, 'type'> & { readonly type: `step.${N['type']}` } }[
  | 'metrics'
  | 'checkpoint'
  | 'validation'
  | 'warning']

export function createWatcher(options: WatcherOptions, tell: (event: Untold) => Promise<void>): Watcher {
  const { body, input, note, premises } = options
  const stop = new AbortController()
  let watch: JobWatch | undefined
  const begin = () => {
    const { nodes = 1, devicesPerNode = 0, startedAt = Date.now() } = note
    watch ??= body.watch?.(input, { launch: { nodes, devicesPerNode }, premises, startedAt })
  }
  const pass = async (news: readonly JobNews[]) => {
    for (const one of news) {
      if (one.type === 'stop') stop.abort(one.failure)
      else await tell({ ...one, type: `step.${one.type}` } as Untold)
    }
  }
  return {
    stopped: stop.signal,
    begin,
    async read({ line, node }) {
      begin()
      const values = body.metricsFrom?.(line, input)
      if (values) await tell({ type: 'step.metrics', values })
      if (watch) await pass(watch.read({ text: line, at: Date.now(), node }))
    },
    dueAt: () => watch?.dueAt(),
    overdue: at => void pass(watch?.overdue(at) ?? []),
    diagnose: end => {
      begin()
      return watch?.diagnose({ ...end, at: Date.now() })
    },
  }
}
