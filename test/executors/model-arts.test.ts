import { writeFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Executor, JobUpdate, Launch } from 'ascendflow'
import { isFlowError } from 'ascendflow'
import { type ModelArtsOptions, modelArts } from 'ascendflow/modelarts'
import { type CloudDouble, type CloudDoubleOptions, describeExecutor, startCloudDouble } from 'ascendflow/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

const mounts = [{ local: tmpdir(), nfs: '127.0.0.1:/share' }]
const signal = new AbortController().signal

function executorFor(double: CloudDouble, more: Partial<ModelArtsOptions> = {}): Executor {
  const { url, region, credentials } = double
  return modelArts({
    ...{ region, credentials, mounts, endpoints: { modelarts: url, iam: url }, image: 'my-org/train:1' },
    ...{ poolId: 'pool-double', logFolder: '/bucket/logs/', pollMs: 10, retryDelayMs: 1, ...more },
  })
}

const shell = (script: string, more: Partial<Launch> = {}): Launch => {
  return { argv: ['/bin/sh', '-c', script], nodes: 1, devicesPerNode: 0, ...more }
}

let double: CloudDouble
beforeAll(async () => {
  double = await startCloudDouble()
})
afterAll(() => double.close())

describeExecutor('modelArts', () => executorFor(double), { describe, it })

describe('modelArts', () => {
  const open: { close(): Promise<void> }[] = []
  const dirs: string[] = []
  afterEach(async () => {
    for (const each of open.splice(0)) await each.close()
    for (const dir of dirs.splice(0)) await rm(dir, { recursive: true, force: true })
  })
  const start = async (options: CloudDoubleOptions) => {
    const started = await startCloudDouble(options)
    open.push(started)
    return started
  }
  const work = async () => {
    const dir = await mkdtemp(join(tmpdir(), 'ascendflow-modelarts-'))
    dirs.push(dir)
    return dir
  }

  async function runThrough(executor: Executor, launch: Launch, id = 'train-abc-1') {
    const job = await executor.submit(launch, { id, logDir: await work(), signal })
    const updates: JobUpdate[] = []
    for await (const update of executor.watch(job, { signal })) updates.push(update)
    const lines = updates.flatMap(update => (update.type === 'log' ? [update.line] : []))
    const states = updates.flatMap(update => (update.type === 'state' ? [update] : []))
    return { job, lines, states, last: states.at(-1) }
  }

  it('gives every node its place, and tells the output of the last', async () => {
    const dir = await work()
    const argv = [
      ...['/bin/sh', '-c', 'echo "$1 of $2 at $3:$4" > "$0.$1"; echo "node $1"', { write: join(dir, 'place') }],
      ...(['rank', 'count', 'masterAddr', 'masterPort'] as const).map(node => ({ node })),
    ]
    const { lines, last } = await runThrough(executorFor(double), { argv, nodes: 3, devicesPerNode: 8 }, 'places-1')
    expect([lines, last?.state]).toEqual([['node 2'], 'succeeded'])
    const places = await Promise.all([0, 1, 2].map(rank => readFile(join(dir, `place.${rank}`), 'utf8')))
    expect(places.map(text => text.replace(/ at \S+/, ' at an address').trim())).toEqual([
      ...['0 of 3 at an address', '1 of 3 at an address', '2 of 3 at an address'],
    ])
    expect(new Set(places.map(text => text.split(' at ')[1])).size).toBe(1)
  })

  it('tells the end of the log of the node that failed', async () => {
    const waits = 'until [ -e "$0" ]; do sleep 0.02; done; echo "Traceback: node 0"; exit 3'
    const script = `if [ "$1" = 0 ]; then ${waits}; else echo waiting; : > "$0"; sleep 60; fi`
    const argv = ['/bin/sh', '-c', script, { write: join(await work(), 'begun') }, { node: 'rank' } as const]
    const { lines, last } = await runThrough(executorFor(double), { argv, nodes: 2, devicesPerNode: 8 }, 'failing-1')
    expect(lines).toEqual(['waiting', 'Traceback: node 0'])
    expect(last).toMatchObject({ state: 'failed', exitCode: 3, reason: 'worker-0' })
  })

  it('takes the job that was created when the answer to its creation was lost', async () => {
    let lost = 2
    const fragile = await start({
      fault: ({ method, path }) =>
        method === 'POST' && path.endsWith('/training-jobs') && lost-- > 0 ? 'lost-answer' : undefined,
    })
    const { lines, last } = await runThrough(executorFor(fragile), shell('echo once'))
    expect([lines, last?.state, fragile.jobs.length]).toEqual([['once'], 'succeeded', 1])
  })

  it('loses and repeats no line when more is written than the preview shows', async () => {
    const narrow = await start({ previewBytes: 1000 })
    const script =
      'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo "第 $i 行"; [ $((i % 100)) -gt 0 ] || sleep 0.03; done'
    const { lines } = await runThrough(executorFor(narrow), shell(script))
    expect(lines).toEqual(Array.from({ length: 400 }, (_, i) => `第 ${i + 1} 行`))
  })

  it('says how much of a log is not shown when it is not exported', async () => {
    const narrow = await start({ previewBytes: 100 })
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
    const allTold = join(await work(), 'all-told')
    const restless = await start({
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
    const job = await executor.submit(shell('sleep 60'), { id: 'deleted-1', logDir: await work(), signal })
    const { trainingJobs, createTransport } = await import('ascendflow/modelarts')
    const { url, region, credentials } = double
    const jobs = trainingJobs(createTransport({ region, credentials, endpoints: { modelarts: url, iam: url } }))
    await jobs.remove(String(job.jobId))
    const states: JobUpdate[] = []
    for await (const update of executor.watch(job, { signal })) states.push(update)
    expect(states.at(-1)).toEqual({ type: 'state', state: 'lost', reason: 'it was deleted' })
  })

  it('refuses a path that is on no volume, naming those that there are', () => {
    const launch = shell('true', { argv: ['/bin/cat', { read: '/data/corpus.jsonl' }] })
    expect(() => executorFor(double).describe(launch)).toThrow(
      `/data/corpus.jsonl is on no volume of the job: ${tmpdir()}.`,
    )
  })

  it('refuses a secret in the environment without telling it', () => {
    const launch = shell('true', { env: { HF_TOKEN: 'hf_secret' } })
    expect(() => executorFor(double).describe(launch)).toThrow(/^(?!.*hf_secret).*env\.HF_TOKEN.*looks like a secret/s)
  })

  it.each<[string, CloudDoubleOptions, Partial<ModelArtsOptions>, Partial<Launch>, RegExp]>([
    ['a region that the account does not use', {}, { region: 'cn-north-9' }, {}, /no project in 'cn-north-9'/],
    ['a project of another region', {}, { projectId: 'f'.repeat(32) }, {}, /2786 .*leave it out to have it found/],
    ['ModelArts without an authorization', { isAuthorized: false }, {}, {}, /403 ModelArts\.2785 .*authorization/],
    [
      'a flavor that the pool does not offer',
      {},
      { flavorId: 'modelarts.bm.910b.8' },
      {},
      /2781 .*modelarts\.pool\.visual/,
    ],
    ['a pool that is not there', {}, { poolId: 'my pool' }, {}, /2890 .*'pool-…'/],
    [
      'a pool that does not run',
      { pools: [{ name: 'pool-double', nodes: 1, devicesPerNode: 8, phase: 'Abnormal' }] },
      ...([{}, {}, /2887 .*not running/] as const),
    ],
    ['more nodes than the pool has', {}, {}, { nodes: 9 }, /2815 .*Ask for fewer nodes/],
    [
      "a registry's host in the image",
      {},
      { image: 'swr.cn-southwest-2.myhuaweicloud.com/o/i:1' },
      {},
      /2810 .*organisation/,
    ],
    [
      'wrong keys',
      {},
      { credentials: { ak: 'DOUBLEACCESSKEY', sk: 'wrong' } },
      {},
      /401 APIGW\.0301 .*Check the access key/,
    ],
  ])('says what to do about %s', async (_, options, wrong, launch, message) => {
    const strict = await start(options)
    const executor = executorFor(strict, wrong)
    const error = await executor.submit(shell('true', launch), { id: 'bad-1', logDir: await work(), signal }).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(isFlowError(error)).toBe(true)
    expect((error as Error).message).toMatch(message)
    expect(strict.jobs).toEqual([])
  })

  it('says what to do when another job has the name and cannot be found', async () => {
    const hidden = await start({
      fault: ({ path }) => (path.endsWith('/training-job-searches') ? 'server-error' : undefined),
    })
    const executor = executorFor(hidden, { retries: 1 })
    await expect(executor.submit(shell('true'), { id: 'n-1', logDir: await work(), signal })).rejects.toThrow(
      'ModelArts.2950',
    )
    expect(hidden.jobs).toEqual([])
  })
})
