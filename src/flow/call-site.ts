import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** `file:line` of the code that called `below`, relative to the working folder; undefined where V8 does not tell. */
export function callSite(below: (...args: never[]) => unknown): string | undefined {
  const holder: { stack?: string } = {}
  Error.captureStackTrace(holder, below)
  const frame = holder.stack?.split('\n')[1]
  const place = frame && /(?:\(|at )((?:file:\/\/)?[^()]+):(\d+):\d+\)?$/.exec(frame)
  if (!place?.[1]) return undefined
  const path = place[1].startsWith('file://') ? fileURLToPath(place[1]) : place[1]
  const near = relative(process.cwd(), path)
  return `${near.startsWith('..') ? path : near}:${place[2]}`
}
