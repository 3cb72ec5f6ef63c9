import { readdirSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { local } from 'ascendflow'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { prepareTraining, train } from './double-fixture.ts'

let work: Awaited<ReturnType<typeof prepareTraining>>
let jobs = 0

beforeAll(async () => {
  work = await prepareTraining('mindspeed-llm')
})
afterAll(() => work.forget())

const signal = new AbortController().signal
const nodes = () => local({ devicesPerNode: 4, env: work.double.env(process.env.PATH), killAfterMs: 200 })

async function submit() {
  jobs += 1
  const logDir = join(work.dir, `job-${jobs}`)
  await mkdir(logDir)
  return nodes().submit(train(work, { save: join(logDir, 'trained') }), { id: `job-${jobs}`, logDir, signal })
}

/** Processes whose command line names the double. */
function processesLeft(): string[] {
  return readdirSync('/proc').flatMap(entry => {
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0')
      return words.includes(work.double.toolchain.dir) ? [words.join(' ')] : []
    } catch {
      return []
    }
  })
}

describe('an executor, tested with the double,', () => {
  it('runs the toolchain’s own command to its end', async () => {
    const lines: string[] = []
    const states: string[] = []
    for await (const update of nodes().watch(await submit(), { signal }))
      if (update.type === 'log') lines.push(update.line)
      else states.push(update.state)
    expect(states).toEqual(['running', 'succeeded'])
    expect(lines.flatMap(line => parseIterationLine(line)?.iteration ?? [])).toEqual([1, 2, 3, 4])
  })

  it('cancels a training that hangs, and leaves no process', async () => {
    await work.double.inject({ kind: 'hang-in-training', at: 2 })
    const job = await submit()
    const states: string[] = []
    for await (const update of nodes().watch(job, { signal })) {
      if (update.type === 'state') states.push(update.state)
      else if (parseIterationLine(update.line)) await nodes().cancel(job)
    }
    expect(states).toEqual(['running', 'cancelled'])
    expect(processesLeft()).toEqual([])
  })

  it('tells success where the toolchain says so: it takes more to know', async () => {
    await work.double.inject({ kind: 'early-exit' })
    const states: string[] = []
    for await (const update of nodes().watch(await submit(), { signal }))
      if (update.type === 'state') states.push(update.state)
    expect(states).toEqual(['running', 'succeeded'])
  })
})
