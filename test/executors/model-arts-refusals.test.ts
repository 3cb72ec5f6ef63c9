import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Launch } from 'ascendflow'
import { isFlowError } from 'ascendflow'
import { createTransport, type ModelArtsOptions, modelArts, trainingJobs } from 'ascendflow/modelarts'
import type { CloudDouble, CloudDoubleOptions } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { executorFor, follow, mounts, newFolder, shell, startDouble, submit } from './model-arts-on-double.ts'

const executor = modelArts({
  ...{ region: 'cn-southwest-2', credentials: { ak: 'AK', sk: 'SK' }, image: 'my-org/train:1', mounts },
})

describe('modelArts', () => {
  it('refuses a path that is on no volume, naming those that there are', () => {
    const launch = shell('true', { argv: ['/bin/cat', { read: '/data/corpus.jsonl' }] })
    expect(() => executor.describe(launch)).toThrow(`/data/corpus.jsonl is on no volume of the job: ${tmpdir()}.`)
  })

  it('refuses a secret in the environment without telling it', () => {
    const launch = shell('true', { env: { HF_TOKEN: 'hf_secret' } })
    expect(() => executor.describe(launch)).toThrow(/^(?!.*hf_secret).*env\.HF_TOKEN.*looks like a secret/s)
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
    const strict = await startDouble(options)
    const error = await submit(executorFor(strict, wrong), shell('true', launch)).catch((reason: unknown) => reason)
    expect(isFlowError(error)).toBe(true)
    expect((error as Error).message).toMatch(message)
    expect(strict.jobs).toEqual([])
  })

  describe("when a job has its job's name already", () => {
    const named = async () => {
      const logDir = await newFolder()
      await writeFile(join(logDir, 'job-name'), 'ascendflow-train-1-0badc0de')
      return logDir
    }
    const make = (double: CloudDouble, name: string, more: object = {}) => {
      const { url, region, credentials } = double
      const jobs = trainingJobs(createTransport({ region, credentials, endpoints: { modelarts: url, iam: url } }))
      return jobs.create({
        kind: 'job',
        metadata: { name, ...more },
        algorithm: { engine: { image_url: 'o/i:1' }, command: 'true' },
        spec: { resource: { node_count: 1 } },
      })
    }
    const submitNamed = (double: CloudDouble, logDir: string) =>
      executorFor(double).submit(shell('echo mine'), { id: 'train-1', logDir, signal: new AbortController().signal })

    it.each([true, false])('says whose it is and how to go on, where names may be used once: %s', async once => {
      const double = await startDouble({ refusesSameName: once })
      const logDir = await named()
      const { metadata } = await make(double, 'ascendflow-train-1-0badc0de', { description: 'of a colleague' })
      await expect(submitNamed(double, logDir)).rejects.toThrow(
        `modelarts: a training job has the name ascendflow-train-1-0badc0de already. It is ${metadata.id}, and was not submitted from here. Delete that job and wait until it is gone, or remove ${join(logDir, 'job-name')} to have another name chosen.`,
      )
      expect(double.jobs.length).toBe(1)
      await rm(join(logDir, 'job-name'))
      const job = await submitNamed(double, logDir)
      expect((await follow(executorFor(double), job)).lines).toEqual(['mine'])
    })

    it('says so of a job that may not be seen, too', async () => {
      const double = await startDouble()
      await make(double, 'ascendflow-train-1-0badc0de', { workspace_id: 'another' })
      await expect(submitNamed(double, await named())).rejects.toThrow(
        'already. It is in none of the lists that these credentials may see. Delete that job',
      )
      expect(double.jobs.length).toBe(1)
    })
  })
})
