import { setTimeout as sleep } from 'node:timers/promises'
import type { TrainingJobs } from '../../cloud/modelarts/training-jobs.ts'
import type { JobUpdate } from '../../flow/executor.ts'
import { followLog } from './job-log.ts'

type LogUpdate = Extract<JobUpdate, { readonly type: 'log' }>

/** Follows the logs of all nodes of one job from their first bytes on; each line is told once. */
export interface JobLogs {
  /** New lines: of the last node, where AscendSpeed prints its iterations, and of others in turn. */
  look(signal: AbortSignal): AsyncGenerator<LogUpdate>
  /** Of a job that has ended: all that is still to come, of the nodes `last` after the others'. */
  rest(options: {
    readonly last: readonly number[]
    readonly pollMs: number
    readonly signal: AbortSignal
  }): AsyncGenerator<LogUpdate>
}

/** Logs that are asked for at one look, so that a large job does not use up what the service allows. */
const logsAtOnce = 8

export function followLogs(
  jobs: TrainingJobs,
  { id, nodes }: { readonly id: string; readonly nodes: number },
): JobLogs {
  const logs = Array.from({ length: nodes }, (_, node) => followLog(jobs, { id, task: `worker-${node}` }))
  const lineOf = (node: number, line: string): LogUpdate => ({ type: 'log', line, ...(nodes > 1 ? { node } : {}) })
  let turn = 0

  /** What could be read is told before a failure is, since it is not read again. */
  async function* told(asked: readonly number[], signal: AbortSignal): AsyncGenerator<LogUpdate> {
    const read = await Promise.allSettled(asked.map(async node => (await logs[node]?.lines(signal)) ?? []))
    for (const [at, result] of read.entries())
      if (result.status === 'fulfilled') for (const line of result.value) yield lineOf(asked[at] ?? 0, line)
    const failed = read.find(result => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  return {
    look(signal) {
      const others = Array.from({ length: Math.min(logsAtOnce, nodes) - 1 }, () => turn++ % (nodes - 1))
      return told([...others, nodes - 1], signal)
    },
    async *rest({ last, pollMs, signal }) {
      const ranks = [...logs.keys()].sort((a, b) => Number(last.includes(a)) - Number(last.includes(b)) || a - b)
      // A log may grow for a moment after its job's end: it is whole when two looks find nothing new.
      for (let idle = 0; idle < 2; ) {
        let isNew = false
        for (let from = 0; from < nodes; from += logsAtOnce)
          for await (const update of told(ranks.slice(from, from + logsAtOnce), signal)) {
            isNew = true
            yield update
          }
        idle = isNew ? 0 : idle + 1
        if (!isNew && idle < 2) await sleep(pollMs, undefined, { signal })
      }
      for (const node of ranks) {
        const line = logs[node]?.rest()
        if (line) yield lineOf(node, line)
      }
    },
  }
}
