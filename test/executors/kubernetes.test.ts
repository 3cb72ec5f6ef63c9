import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kubernetes } from 'ascendflow'
import { describeExecutor } from 'ascendflow/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { KubernetesOptions } from '../../src/executors/kubernetes/options.ts'
import type { JobHandle, JobUpdate } from '../../src/flow/executor.ts'
import { type ClusterDouble, startClusterDouble } from './kubernetes/cluster-double.ts'

let cluster: ClusterDouble
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'kubernetes-'))
  cluster = await startClusterDouble(dir)
})
afterAll(() => cluster.close())
afterEach(() => {
  cluster.fault = undefined
  cluster.schedules = true
})

const make = (options: Partial<KubernetesOptions> = {}) =>
  kubernetes({
    ...{ image: 'trainer:1', dialect: 'cce', kubeconfig: cluster.kubeconfig, pollMs: 10 },
    ...{ terminationGracePeriodSeconds: 1, mounts: [{ path: tmpdir(), hostPath: tmpdir() }] },
    ...options,
  })
const signal = new AbortController().signal
const shell = (script: string, nodes = 1) => ({ argv: ['/bin/sh', '-c', script], nodes, devicesPerNode: 0 })

async function submit(launch = shell('echo up; sleep 600'), options: Partial<KubernetesOptions> = {}) {
  const logDir = await mkdtemp(join(dir, 'job-'))
  return make(options).submit(launch, { id: 'train-0123456789ab-1', logDir, signal })
}

async function watchToEnd(job: JobHandle, onUpdate: (update: JobUpdate) => unknown = () => {}) {
  const updates: JobUpdate[] = []
  for await (const update of make().watch(job, { signal })) {
    updates.push(update)
    await onUpdate(update)
  }
  const lines = updates.flatMap(update => (update.type === 'log' ? [update.line] : []))
  return { updates, lines, last: updates.at(-1) }
}

describeExecutor('kubernetes', () => make(), { describe, it }, { nodes: 2 })

describe('kubernetes', () => {
  it('takes an unschedulable job as pending, and says why', async () => {
    cluster.schedules = false
    const { updates, last } = await watchToEnd(await submit(shell('true')), update => {
      if (update.type === 'state' && update.reason?.startsWith('Unschedulable')) cluster.schedules = true
    })
    expect(updates[0]).toMatchObject({ state: 'pending' })
    expect(updates).toContainEqual({
      ...{ type: 'state', state: 'pending' },
      reason: 'Unschedulable: 0/4 nodes are available: 4 Insufficient huawei.com/ascend-1980.',
    })
    expect(last).toEqual({ type: 'state', state: 'succeeded', exitCode: 0 })
  })

  it('runs a pod on each node and tells lines by node', async () => {
    const place = (['rank', 'count', 'masterAddr', 'masterPort'] as const).map(node => ({ node }))
    const job = await submit({ argv: ['/bin/echo', ...place], nodes: 3, devicesPerNode: 0 } as never)
    const { updates } = await watchToEnd(job)
    const lines = updates.flatMap(update => (update.type === 'log' ? [[update.node, update.line]] : []))
    const host = `${job.name}-worker-0.${job.name}`
    expect(lines.sort()).toEqual([0, 1, 2].map(rank => [rank, expect.stringMatching(`^${rank} 3 ${host} 29\\d{3}$`)]))
  })

  it('fails with the exit code of the node that failed first, and stops the others', async () => {
    const job = await submit(shell('if [ "$VC_TASK_INDEX" = 1 ]; then exit 3; fi; exec sleep 600', 3))
    const { last } = await watchToEnd(job)
    expect(last).toEqual({ type: 'state', state: 'failed', exitCode: 3, reason: 'node 1: failed first', node: 1 })
    expect(cluster.jobs.get(job.name as string)!.pods.every(pod => pod.process!.end)).toBe(true)
  })

  it('takes an evicted pod for a lost job, which may be tried again', async () => {
    const job = await submit(shell('echo up; exec sleep 600', 2))
    const { last } = await watchToEnd(job, async update => {
      if (update.type === 'log' && update.node === 1) await cluster.evict(job.name as string, 1)
    })
    const reason = 'node 1: Evicted: The node was low on resource: ephemeral-storage.'
    expect(last).toEqual({ type: 'state', state: 'lost', reason, node: 1 })
  })

  it('keeps the next try away from the machine of a node that failed, beside what the user asks for', async () => {
    const first = await submit(shell('echo up; exec sleep 600', 2))
    await watchToEnd(first, async update => {
      if (update.type === 'log' && update.node === 1) await cluster.evict(first.name as string, 1)
    })
    const zone = { matchExpressions: [{ key: 'zone', operator: 'In', values: ['a'] }] }
    const asked = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [zone] } } }
    const logDir = await mkdtemp(join(dir, 'job-'))
    const avoid = [{ job: first, node: 1 }]
    const executor = make({ podSpec: { affinity: asked } })
    const job = await executor.submit(shell('true', 2), { id: 'train-0123456789ab-2', logDir, signal, avoid })
    expect(job.leftOut).toEqual(['machine-1'])
    const { affinity } = cluster.jobs.get(job.name as string)!.body.spec.tasks[0]!.template.spec
    const away = { key: 'metadata.name', operator: 'NotIn', values: ['machine-1'] }
    expect(affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms).toEqual([
      { ...zone, matchFields: [away] },
    ])
    expect((await watchToEnd(job)).last).toMatchObject({ state: 'succeeded' })
    expect(await readFile(join(logDir, 'machine-1'), 'utf8')).toBe('machine-2')
  })

  it('tells that memory ran out', async () => {
    const job = await submit(shell('echo up; exec sleep 600'))
    const { last } = await watchToEnd(job, update => {
      if (update.type !== 'log') return
      const pod = cluster.jobs.get(job.name as string)!.pods[0]!
      pod.process!.kill()
      const terminated = { exitCode: 137, reason: 'OOMKilled', finishedAt: new Date().toISOString() }
      pod.status = { containerStatuses: [{ state: { terminated } }] }
    })
    const reason = 'node 0: OOMKilled: it used more memory than its limit'
    expect(last).toEqual({ type: 'state', state: 'failed', exitCode: 137, reason })
  })

  it('tells a job that somebody deleted as lost', async () => {
    const job = await submit()
    const elsewhere = await mkdtemp(join(dir, 'elsewhere-'))
    const { last } = await watchToEnd(job, async update => {
      if (update.type === 'log') await make().cancel({ ...job, dir: elsewhere })
    })
    expect(last).toMatchObject({ state: 'lost', reason: expect.stringContaining('deleted from the cluster') })
  })

  it.each([
    ['is reset', false],
    ['is closed', true],
  ])('tells each line once when the log %s again and again', async (_, gently) => {
    const count = 400
    let [seed, cuts] = [1, 0]
    cluster.fault = ({ path }) => {
      if (!path.endsWith('/log') || cuts >= 40) return undefined
      cuts++
      seed = (seed * 48_271) % 2_147_483_647
      // Into lines and between them; what is asked for again is longer than some of the cuts.
      return { cutAfterBytes: 60 + (seed % 9_000), gently }
    }
    const script = `i=0; while [ $i -lt ${count} ]; do i=$((i+1)); echo "line $i"; [ $((i % 100)) = 0 ] && sleep 0.4; done; printf "the end"`
    const { lines, last } = await watchToEnd(await submit(shell(script)))
    expect(cuts).toBeGreaterThan(3)
    expect(last).toMatchObject({ state: 'succeeded' })
    expect(lines).toEqual([...Array.from({ length: count }, (_, i) => `line ${i + 1}`), 'the end'])
  })

  it('submits once when the answer to the first try was lost', async () => {
    let lost = 0
    cluster.fault = ({ method, path }) =>
      method === 'POST' && path.endsWith('/jobs') && lost++ === 0 ? 'reset after' : undefined
    const before = cluster.jobs.size
    const job = await submit(shell('echo once'))
    expect([cluster.jobs.size - before, lost]).toEqual([1, 2])
    expect((await watchToEnd(job)).lines).toEqual(['once'])
  })

  it('goes on through overloaded and broken API servers', async () => {
    let seed = 7
    cluster.fault = () => {
      seed = (seed * 48_271) % 2_147_483_647
      return [{ status: 429 }, { status: 502, text: '<html>bad gateway</html>' }, undefined, undefined][seed % 4]
    }
    const { lines, last } = await watchToEnd(await submit(shell('echo one; echo two')))
    expect([lines, last]).toEqual([['one', 'two'], { type: 'state', state: 'succeeded', exitCode: 0 }])
  })

  it('leaves nothing behind when the cluster refuses a job, and says what it said', async () => {
    const objects = cluster.objects.size
    const refused = submit({ ...shell('true'), env: { HF_TOKEN: 'x' } } as never, { queue: 'nowhere' })
    await expect(refused).rejects.toThrow(/answered 422 .* unable to find job queue: nowhere/)
    await expect(submit(shell('true'), { podSpec: { nodeSelectors: {} } })).rejects.toThrow(/422 .*nodeSelectors/)
    expect(cluster.objects.size).toBe(objects)
  })

  it('says what is wrong with credentials', async () => {
    cluster.fault = () => ({ status: 403, text: '{"message":"jobs.batch.volcano.sh is forbidden"}' })
    await expect(submit()).rejects.toThrow(/403 .*is forbidden The account needs create, get and delete/)
  })

  it('keeps secrets out of job and description, gives them to the command, and deletes them with the job', async () => {
    const launch = { ...shell('echo "$API_KEY"; sleep 600'), env: { API_KEY: 'pa$$word $(HOME)' } }
    expect(make().describe(launch)).not.toContain('pa$$word')
    const job = await submit(launch as never)
    let told = ''
    for await (const update of make().watch(job, { signal })) {
      if (update.type !== 'log') continue
      told = update.line
      break
    }
    expect(told).toBe('pa$$word $(HOME)')
    expect(JSON.stringify(cluster.jobs.get(job.name as string)!.body)).not.toContain('pa$$word')
    expect(cluster.objects.has(`secrets/${job.name}`)).toBe(true)
    await make().cancel(job)
    expect(cluster.objects.has(`secrets/${job.name}`)).toBe(false)
    expect(cluster.jobs.has(job.name as string)).toBe(false)
  })

  it('shows pods the files of this machine where a volume has them, and refuses a path that none has', async () => {
    const data = await mkdtemp(join(dir, 'data-'))
    const mountPath = join(dir, 'as-pods-see-it', 'data')
    const argv = ['/bin/sh', '-c', 'echo "$0"; echo there > "$0"', { write: join(data, 'out') }]
    const job = await submit({ argv, nodes: 1, devicesPerNode: 0 } as never, {
      mounts: [{ path: data, hostPath: data, mountPath }],
    })
    expect((await watchToEnd(job)).lines).toEqual([join(mountPath, 'out')])
    expect(await readFile(join(data, 'out'), 'utf8')).toBe('there\n')
    const outside = submit({ argv, nodes: 1, devicesPerNode: 0 } as never, {
      mounts: [{ path: '/srv', claim: 'team' }],
    })
    await expect(outside).rejects.toThrow(/pods cannot see .*out: mounted are \/srv/)
    await rm(data, { recursive: true })
  })
})
