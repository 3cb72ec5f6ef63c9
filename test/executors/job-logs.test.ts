import { createTransport, type TrainingJobs, trainingJobs } from 'ascendflow/modelarts'
import { describe, expect, it } from 'vitest'
import { followLogs } from '../../src/executors/model-arts/job-logs.ts'

const { signal } = new AbortController()

/** Jobs whose logs are what `written` says, and cannot be read where that is an error. */
function jobsWith(written: Record<string, string | Error>): TrainingJobs {
  const none = createTransport({ region: 'cn-southwest-2', credentials: { ak: 'AK', sk: 'SK' } })
  return {
    ...trainingJobs(none),
    async logPreview(_, task) {
      const text = written[task] ?? ''
      if (text instanceof Error) throw text
      const content = Buffer.from(text)
      return { content, currentSize: content.length, fullSize: content.length }
    },
  }
}

async function gather(updates: AsyncIterable<{ readonly line: string; readonly node?: number }>) {
  const lines: string[] = []
  try {
    for await (const { line, node } of updates) lines.push(`${node}: ${line}`)
  } catch (error) {
    lines.push(String(error))
  }
  return lines
}

describe('followLogs', () => {
  it('tells last what nodes say that failed', async () => {
    const jobs = jobsWith({ 'worker-0': 'a\nTraceback', 'worker-1': 'b\n', 'worker-2': 'c\n' })
    const logs = followLogs(jobs, { id: 'j', nodes: 3 })
    expect(await gather(logs.rest({ last: [0], pollMs: 1, signal }))).toEqual(['1: b', '2: c', '0: a', '0: Traceback'])
  })

  it('tells what could be read before a failure is told, and the rest when it passes', async () => {
    const written: Record<string, string | Error> = {
      'worker-0': 'a\n',
      'worker-1': new Error('busy'),
      'worker-2': 'c\n',
    }
    const logs = followLogs(jobsWith(written), { id: 'j', nodes: 3 })
    expect(await gather(logs.look(signal))).toEqual(['0: a', '2: c', 'Error: busy'])
    written['worker-1'] = 'b\n'
    expect(await gather(logs.look(signal))).toEqual(['1: b'])
    expect(await gather(logs.rest({ last: [], pollMs: 1, signal }))).toEqual([])
  })

  it('reads the last node at each look, and of many others some in turn', async () => {
    const written = Object.fromEntries(Array.from({ length: 20 }, (_, node) => [`worker-${node}`, `${node}\n`]))
    const logs = followLogs(jobsWith(written), { id: 'j', nodes: 20 })
    const looks = [await gather(logs.look(signal)), await gather(logs.look(signal)), await gather(logs.look(signal))]
    expect(looks.map(({ length }) => length)).toEqual([8, 7, 5])
    expect(looks[0]?.at(-1)).toBe('19: 19')
    expect(new Set(looks.flat()).size).toBe(20)
  })
})
