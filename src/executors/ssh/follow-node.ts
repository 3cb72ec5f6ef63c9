import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { createLineCutter } from '../log-lines.ts'
import type { SshHost } from './host.ts'
import { followScript, type RemotePlace } from './remote-job.ts'
import { refuseForGood, type SshClient } from './ssh-client.ts'

/** How a node's part of a job ended: with an exit code, or gone without one, for a reason. */
export interface NodeEnd {
  readonly exitCode?: number
  readonly reason?: string
  /** True when nobody can tell whether it still runs, because the host is out of reach. */
  readonly isUnreachable?: boolean
}

export interface FollowNodeOptions {
  readonly client: SshClient
  readonly host: SshHost
  readonly place: RemotePlace
  readonly signal: AbortSignal
  onLine(line: string): Promise<void>
}

const longestDelayMs = 5_000

/**
 * Gives a node's output line by line until its part of the job has ended. A connection that ends is made again, and the
 * output goes on at the byte where it was cut.
 */
export async function followNode({ client, host, place, signal, onLine }: FollowNodeOptions): Promise<NodeEnd> {
  const cutter = createLineCutter()
  let offset = 0
  let heardAt = Date.now()
  let delayMs = 100
  for (;;) {
    const { child } = await client.start(host, followScript(place, offset), { buffer: false, signal })
    for await (const bytes of child.stdout as Readable) {
      offset += bytes.length
      heardAt = Date.now()
      delayMs = 100
      for (const line of cutter.push(bytes)) await onLine(line)
    }
    const { stderr } = await child
    signal.throwIfAborted()
    const end = endTold(stderr)
    if (end) {
      if (cutter.rest()) await onLine(cutter.rest())
      return end
    }
    refuseForGood(host, place.job, stderr)
    // What came over stderr, be it a sign of life only, says that the host was there until now.
    if (stderr.includes('.\n')) heardAt = Date.now()
    if (Date.now() - heardAt > client.lostAfterMs)
      return {
        isUnreachable: true,
        reason: `out of reach for ${Math.round((Date.now() - heardAt) / 1000)} s; it may still be running there`,
      }
    await sleep(delayMs, undefined, { signal })
    delayMs = Math.min(2 * delayMs, longestDelayMs)
  }
}

function endTold(stderr: string): NodeEnd | undefined {
  const told = /^ascendflow: (?:exit (?<code>\d+)|(?<gone>gone|missing))$/m.exec(stderr)?.groups
  if (!told) return undefined
  if (told.code !== undefined) return { exitCode: Number(told.code) }
  return { reason: told.gone === 'gone' ? 'its process is gone and left no exit status' : 'it has no folder there' }
}
