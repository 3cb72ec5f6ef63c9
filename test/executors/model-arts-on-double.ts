import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Executor, JobHandle, JobUpdate, Launch } from 'ascendflow'
import { type ModelArtsOptions, modelArts } from 'ascendflow/modelarts'
import { type CloudDouble, type CloudDoubleOptions, startCloudDouble } from 'ascendflow/testing'
import { onTestFinished } from 'vitest'

export const mounts = [{ local: tmpdir(), nfs: '127.0.0.1:/share' }]
const signal = new AbortController().signal

/** A folder that is removed after the test. */
export async function newFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-modelarts-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** A double that is closed after the test. */
export async function startDouble(options: CloudDoubleOptions = {}): Promise<CloudDouble> {
  const double = await startCloudDouble(options)
  onTestFinished(() => double.close())
  return double
}

export function executorFor(double: CloudDouble, more: Partial<ModelArtsOptions> = {}): Executor {
  const { url, region, credentials } = double
  return modelArts({
    ...{ region, credentials, mounts, endpoints: { modelarts: url, iam: url }, image: 'my-org/train:1' },
    ...{ poolId: 'pool-double', logFolder: '/bucket/logs/', pollMs: 10, retryDelayMs: 1, ...more },
  })
}

export const shell = (script: string, more: Partial<Launch> = {}): Launch => {
  return { argv: ['/bin/sh', '-c', script], nodes: 1, devicesPerNode: 0, ...more }
}

export async function submit(executor: Executor, launch: Launch, id = 'train-abc-1'): Promise<JobHandle> {
  return executor.submit(launch, { id, logDir: await newFolder(), signal })
}

/** What is told of the job, to its end. */
export async function follow(executor: Executor, job: JobHandle) {
  const updates: JobUpdate[] = []
  for await (const update of executor.watch(job, { signal })) updates.push(update)
  const logs = updates.flatMap(update => (update.type === 'log' ? [update] : []))
  const states = updates.flatMap(update => (update.type === 'state' ? [update] : []))
  return { job, logs, lines: logs.map(({ line }) => line), states, last: states.at(-1) }
}

export async function runThrough(executor: Executor, launch: Launch, id?: string) {
  return follow(executor, await submit(executor, launch, id))
}
