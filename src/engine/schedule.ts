import type { Work } from './survey.ts'

export interface ScheduleOptions {
  readonly concurrency: number
  readonly signal: AbortSignal
  carryOut(work: Work, outputOf: (work: Work) => unknown): Promise<unknown>
}

/**
 * Carries out all work, each piece after those it needs and at most `concurrency` at a time.
 * After a failure nothing new begins; what is at work is finished first, then the first failure is thrown.
 */
export async function schedule(all: readonly Work[], options: ScheduleOptions): Promise<ReadonlyMap<Work, unknown>> {
  const outputs = new Map<Work, unknown>()
  const atWork = new Map<Work, Promise<void>>()
  const failures: unknown[] = []
  const waiting = new Set(all)
  for (;;) {
    for (const work of waiting) {
      if (failures.length > 0 || options.signal.aborted || atWork.size >= options.concurrency) break
      if (!work.upstream.every(up => outputs.has(up))) continue
      waiting.delete(work)
      atWork.set(
        work,
        options
          .carryOut(work, up => outputs.get(up))
          .then(
            output => void outputs.set(work, output),
            error => void failures.push(error),
          )
          .finally(() => atWork.delete(work)),
      )
    }
    if (atWork.size === 0) break
    await Promise.race(atWork.values())
  }
  if (options.signal.aborted) throw options.signal.reason
  if (failures.length > 0) throw failures[0]
  return outputs
}
