import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLineCutter } from '../log-lines.ts'
import type { ClusterClient } from './cluster-client.ts'

export interface PodLogOptions {
  readonly client: ClusterClient
  /** Path of the pod in the API. */
  readonly path: string
  readonly container: string
  readonly signal: AbortSignal
  readonly pollMs: number
  /** Whether the container has ended, or its pod is gone. */
  hasEnded(): Promise<boolean>
  /** Called for each line, one after another. */
  tell(line: string): Promise<void>
}

/**
 * Tells every line of a container's log once, from the first on, however often the connection is cut. Resolves when the
 * container has ended and its last line was told; gives false where the pod is gone and the end of its log with it.
 *
 * Lines carry the times at which the node wrote them. After a cut the log is read again from a second before the newest
 * time, and as many lines passed over as were told of it by then: lines with equal times, or written out of order by
 * two streams, come neither twice nor never.
 */
export async function followPodLog(options: PodLogOptions): Promise<boolean> {
  const { client, path, container, signal, pollMs, hasEnded, tell } = options
  const told = createToldLines()
  let wasCut = true
  let unfinished: string | undefined
  for (;;) {
    const ended = await hasEnded()
    const since = told.since()
    // Below zero when there was a line that was not told before.
    let toPass = told.countSince(since)
    try {
      const answer = await client.open({
        path: `${path}/log`,
        query: { container, follow: 'true', timestamps: 'true', ...(since ? { sinceTime: isoSecond(since) } : {}) },
        signal,
      })
      let rest: string | undefined
      for await (const { text, isWhole } of linesOf(answer)) {
        if (!isWhole) rest = text
        if (!isWhole || --toPass >= 0) continue
        const { second, line } = splitTime(text)
        told.add(second)
        await tell(line)
      }
      // A close may be a cut. Where all that was told came again and nothing else, there is nothing else.
      if (ended && toPass === 0 && rest === unfinished) {
        if (rest !== undefined) await tell(splitTime(rest).line)
        return true
      }
      unfinished = rest
      wasCut = false
    } catch (error) {
      signal.throwIfAborted()
      const { status } = error as { readonly status?: number }
      if (status === 401 || status === 403) throw error
      // Not started, restarting API servers, cut connections: all pass, until the pod is gone.
      if (ended && status === 404) return !wasCut
      wasCut ||= status === undefined
    }
    await sleep(pollMs, undefined, { signal })
  }
}

/** How many lines were told of each of the newest two seconds; older ones are never asked for again. */
function createToldLines() {
  const counts = new Map<number, number>()
  let newest = 0
  return {
    /** `second` is NaN for a line without a time, which then counts as written with the one before. */
    add(second: number): void {
      const at = Number.isNaN(second) ? newest : second
      newest = Math.max(newest, at)
      counts.set(at, (counts.get(at) ?? 0) + 1)
      for (const old of counts.keys()) if (old < newest - 1) counts.delete(old)
    },
    since: (): number | undefined => (newest > 0 ? newest - 1 : undefined),
    countSince: (since: number | undefined): number =>
      since === undefined ? 0 : [...counts].reduce((sum, [second, count]) => (second >= since ? sum + count : sum), 0),
  }
}

const isoSecond = (second: number) => new Date(second * 1000).toISOString()

/** `2026-01-02T03:04:05.678901234+08:00 text`: nodes write their local time. */
function splitTime(stamped: string): { readonly second: number; readonly line: string } {
  const space = stamped.indexOf(' ')
  const second = Math.floor(Date.parse(space < 0 ? stamped : stamped.slice(0, space)) / 1000)
  return { second, line: Number.isNaN(second) ? stamped : space < 0 ? '' : stamped.slice(space + 1) }
}

/** Lines of a body; the last one is not whole where the body, cut or not, has no end of line behind it. */
async function* linesOf(body: IncomingMessage): AsyncGenerator<{ readonly text: string; readonly isWhole: boolean }> {
  const cutter = createLineCutter()
  for await (const chunk of body) for (const text of cutter.push(chunk as Buffer)) yield { text, isWhole: true }
  if (cutter.rest() !== '') yield { text: cutter.rest(), isWhole: false }
}
