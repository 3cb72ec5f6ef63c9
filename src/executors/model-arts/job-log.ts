import type { TrainingJobs } from '../../cloud/modelarts/training-jobs.ts'
import { ServiceError } from '../../errors.ts'
import { createLineCutter } from '../log-lines.ts'

/** Follows the log of one worker from its first byte on. */
export interface JobLog {
  /** Lines completed since the last call. */
  lines(signal?: AbortSignal): Promise<readonly string[]>
  /** A last line without an end; told once. */
  rest(): string
}

/**
 * Reads a worker's log through its preview, which shows the newest part only; when more was written since than it shows,
 * the rest comes by the link to the exported log.
 */
export function followLog(jobs: TrainingJobs, { id, task }: { readonly id: string; readonly task: string }): JobLog {
  const cutter = createLineCutter()
  let seen = 0
  let isOver = false

  async function newPart(signal?: AbortSignal): Promise<LogPart | undefined> {
    const preview = await jobs.logPreview(id, task, signal)
    if (!preview || preview.fullSize <= seen) return undefined
    const { content, currentSize, fullSize } = preview
    const grown = fullSize - seen
    // Bytes that are no text come as longer ones, so that places in the content are not those of the log.
    const isExact = content.length === currentSize
    if (isExact && grown <= currentSize) return { bytes: content.subarray(currentSize - grown), end: fullSize }
    const url = await jobs.logUrl(id, task, signal)
    if (url) {
      const bytes = await readFrom(url, seen, signal)
      return bytes && { bytes, end: seen + bytes.length }
    }
    if (grown <= currentSize)
      return { bytes: content.subarray(seen === 0 ? 0 : Math.max(0, content.length - grown)), end: fullSize }
    // Not exported: what lies between is lost to us, and is said to be.
    const notice = `\n[${grown - currentSize} bytes of the log are not shown: name logFolder]\n`
    return { bytes: Buffer.concat([Buffer.from(notice), content]), end: fullSize }
  }

  return {
    async lines(signal) {
      const part = await newPart(signal)
      if (!part) return []
      seen = part.end
      return cutter.push(part.bytes)
    },
    rest() {
      const last = isOver ? '' : cutter.rest()
      isOver = true
      return last
    },
  }
}

/** Bytes of a log, and where in it they end. */
interface LogPart {
  readonly bytes: Buffer
  readonly end: number
}

async function readFrom(url: string, offset: number, signal?: AbortSignal): Promise<Buffer | undefined> {
  const timeout = AbortSignal.timeout(300_000)
  const answer = await fetch(url, {
    headers: { range: `bytes=${offset}-` },
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
  }).catch((cause: unknown) => {
    signal?.throwIfAborted()
    throw new ServiceError('obs: the exported log could not be read.', { service: 'obs', retryable: true, cause })
  })
  if (answer.status === 416) return undefined
  const bytes = Buffer.from(await answer.arrayBuffer())
  if (answer.status === 206) return bytes
  if (answer.status === 200) return bytes.subarray(offset)
  // The link itself gives access and is not told.
  throw new ServiceError(`obs: the exported log was refused with status ${answer.status}.`, {
    ...{ service: 'obs', status: answer.status, retryable: answer.status >= 500 || [403, 429].includes(answer.status) },
  })
}
