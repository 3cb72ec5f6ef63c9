import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JobUpdate } from 'ascendflow'
import { createTransport, modelArts, trainingJobs } from 'ascendflow/modelarts'
import { type CloudDouble, describeExecutor, startCloudDouble } from 'ascendflow/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { executorFor, mounts, newFolder, runThrough, shell, startDouble, submit } from './model-arts-on-double.ts'

const signal = new AbortController().signal
let double: CloudDouble
beforeAll(async () => {
  double = await startCloudDouble()
})
afterAll(() => double.close())

describeExecutor('modelArts', () => executorFor(double), { describe, it }, { nodes: 3 })

describe('modelArts', () => {
  it('tells each line of each node once, also of more nodes than are read at one look', async () => {
    const large = await startDouble({
      pools: [{ name: 'pool-double', nodes: 11, devicesPerNode: 8 }],
      previewBytes: 60,
    })
    const script = 'for i in 1 2 3; do echo "$0: $i"; sleep 0.05; done; printf "$0: end"'
    const argv = ['/bin/sh', '-c', script, { node: 'rank' } as const]
    const { logs } = await runThrough(executorFor(large), { argv, nodes: 11, devicesPerNode: 8 })
    const told = Array.from({ length: 11 }, (_, rank) =>
      logs.flatMap(({ node, line }) => (node === rank ? [line] : [])),
    )
    expect(told).toEqual(told.map((_, rank) => ['1', '2', '3', 'end'].map(word => `${rank}: ${word}`)))
  })

  it('tells what the node says that failed, and which it is', async () => {
    const waits = 'until [ -e "$0" ]; do sleep 0.02; done; echo "Traceback: node 0"; exit 3'
    const script = `if [ "$1" = 0 ]; then ${waits}; else echo waiting; : > "$0"; sleep 60; fi`
    const argv = ['/bin/sh', '-c', script, { write: join(await newFolder(), 'begun') }, { node: 'rank' } as const]
    const { logs, last } = await runThrough(executorFor(double), { argv, nodes: 2, devicesPerNode: 8 }, 'failing-1')
    expect(new Set(logs.map(({ node, line }) => `${node}: ${line}`))).toEqual(
      new Set(['1: waiting', '0: Traceback: node 0']),
    )
    expect(last).toMatchObject({ state: 'failed', exitCode: 3, reason: 'worker-0' })
  })

  it.each([
    ['the default workspace', {}],
    ['another workspace', { workspaceId: '9f' }],
  ])('takes the job that was created when the answer to its creation was lost, in %s', async (_, more) => {
    let lost = 2
    const fragile = await startDouble({
      fault: ({ method, path }) =>
        method === 'POST' && path.endsWith('/training-jobs') && lost-- > 0 ? 'lost-answer' : undefined,
    })
    const { lines, last } = await runThrough(executorFor(fragile, more), shell('echo once'))
    expect([lines, last?.state, fragile.jobs.length]).toEqual([['once'], 'succeeded', 1])
  })

  it('loses and repeats no line when more is written than the preview shows', async () => {
    const narrow = await startDouble({ previewBytes: 1000 })
    const script =
      'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo "第 $i 行"; [ $((i % 100)) -gt 0 ] || sleep 0.03; done'
    const { lines } = await runThrough(executorFor(narrow), shell(script))
    expect(lines).toEqual(Array.from({ length: 400 }, (_, i) => `第 ${i + 1} 行`))
  })

  it('says how much of a log is not shown when it is not exported', async () => {
    const narrow = await startDouble({ previewBytes: 100 })
    const { logFolder: _, ...others } = { logFolder: '' }
    const executor = modelArts({
      ...{
        region: narrow.region,
        credentials: narrow.credentials,
        endpoints: { modelarts: narrow.url, iam: narrow.url },
      },
      ...{ image: 'my-org/train:1', poolId: 'pool-double', pollMs: 10, mounts, ...others },
    })
    const { lines, last } = await runThrough(executor, shell('seq 1000'))
    expect(lines[1]).toBe('[3793 bytes of the log are not shown: name logFolder]')
    expect([lines.at(-1), last?.state]).toEqual(['1000', 'succeeded'])
  })

  it('follows a job whose phase goes back, or is one that nobody knows', async () => {
    const phases = ['Running', 'Pending', 'Frobnicating', 'Running']
    const allTold = join(await newFolder(), 'all-told')
    const restless = await startDouble({
      disguise: () => {
        if (phases.length === 0) writeFileSync(allTold, '')
        return phases.shift() ?? 'Running'
      },
    })
    const script = 'echo one; until [ -e "$0" ]; do sleep 0.02; done; echo two'
    const launch = shell(script, { argv: ['/bin/sh', '-c', script, { read: allTold }] })
    const { lines, states } = await runThrough(executorFor(restless), launch)
    expect(lines).toEqual(['one', 'two'])
    expect(states.map(({ state }) => state)).toEqual(['pending', 'running', 'pending', 'running', 'succeeded'])
  })

  it('tells that a job is lost when somebody deleted it', async () => {
    const executor = executorFor(double)
    const job = await submit(executor, shell('sleep 60'), 'deleted-1')
    const { url, region, credentials } = double
    const jobs = trainingJobs(createTransport({ region, credentials, endpoints: { modelarts: url, iam: url } }))
    await jobs.remove(String(job.jobId))
    const states: JobUpdate[] = []
    for await (const update of executor.watch(job, { signal })) states.push(update)
    expect(states.at(-1)).toEqual({ type: 'state', state: 'lost', reason: 'it was deleted' })
  })
})
