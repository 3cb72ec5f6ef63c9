import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { docker, type Executor, type JobUpdate } from 'ascendflow'
import { describeExecutor } from 'ascendflow/testing'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'

const client = fileURLToPath(new URL('docker-stub.mjs', import.meta.url))
const signal = new AbortController().signal
const make = (more = {}): Executor => docker({ image: 'trainer:1', client, killAfterMs: 1_000, ...more })
const shell = (script: string) => ({ argv: ['/bin/sh', '-c', script], nodes: 1, devicesPerNode: 0 })

let state: string
let logDir: string
beforeAll(async () => {
  state = await mkdtemp(join(tmpdir(), 'docker-stub-'))
  process.env.DOCKER_STUB = state
})
beforeEach(async () => {
  logDir = await mkdtemp(join(tmpdir(), 'job-'))
})
afterAll(() => rm(state, { recursive: true, force: true }))

const submit = (executor: Executor, launch: Parameters<Executor['submit']>[0]) =>
  executor.submit(launch, { id: 'train-1', logDir, signal })
async function told(updates: AsyncIterable<JobUpdate>) {
  const all = []
  for await (const update of updates) all.push(update.type === 'log' ? update.line : update)
  return all
}
const containers = async () => (await readdir(state)).filter(name => name.startsWith('ascendflow-train-1'))
const containerOf = async (name: string) => JSON.parse(await readFile(join(state, name, 'container.json'), 'utf8'))

describeExecutor('docker', make, { describe, it })

describe('docker', () => {
  it('takes a container away when its end is kept, and tells of it afterwards all the same', async () => {
    const job = await submit(make(), shell('echo one; exit 3'))
    expect(await containers()).toHaveLength(1)
    const first = await told(make().watch(job, { signal }))
    expect(await containers()).toEqual([])
    expect(first.at(-1)).toEqual({ type: 'state', state: 'failed', exitCode: 3 })
    expect(await told(make().watch(job, { signal }))).toEqual(first)
  })

  it('leaves an ended container when told to', async () => {
    const job = await submit(make({ keep: true }), shell('true'))
    await told(make({ keep: true }).watch(job, { signal }))
    expect(await containers()).toHaveLength(1)
    await rm(join(state, (await containers())[0]!), { recursive: true })
  })

  it('goes on at the byte where following was cut, and loses and repeats nothing', async () => {
    const job = await submit(make(), shell('i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo "第 $i 行"; done'))
    await writeFile(join(state, 'cut'), '1000')
    const lines = await told(make().watch(job, { signal }))
    expect(existsSync(join(state, 'cut'))).toBe(false)
    expect(lines.slice(1, -1)).toEqual(Array.from({ length: 300 }, (_, n) => `第 ${n + 1} 行`))
  })

  it('waits for a daemon that is restarted', async () => {
    const job = await submit(make(), shell('echo one'))
    await writeFile(join(state, 'away'), '')
    const watching = told(make().watch(job, { signal }))
    await rm(join(state, 'away'))
    expect((await watching).at(-1)).toMatchObject({ state: 'succeeded' })
  })

  it('says that the kernel killed it for want of memory', async () => {
    await writeFile(join(state, 'oom'), '')
    const job = await submit(make(), shell('kill -9 $$'))
    const last = (await told(make().watch(job, { signal }))).at(-1)
    await rm(join(state, 'oom'))
    expect(last).toMatchObject({ state: 'failed', exitCode: 137, reason: expect.stringContaining('OOMKilled') })
  })

  it('says that a container is lost when somebody removed it', async () => {
    const job = await submit(make(), shell('true'))
    for (const name of await containers()) await rm(join(state, name), { recursive: true })
    expect((await told(make().watch(job, { signal }))).at(-1)).toMatchObject({ state: 'lost' })
  })

  it('starts a container whose starter died before it could', async () => {
    await writeFile(join(logDir, 'starter.json'), JSON.stringify({ host: 'here', pid: 1, started: 'before' }))
    const job = await submit(make(), shell('echo ran'))
    const updates = await told(make().watch(job, { signal }))
    expect(updates.slice(1)).toEqual(['ran', expect.objectContaining({ state: 'succeeded' })])
  })

  it('gives values of the environment to the client and not to its command line', async () => {
    const env = { HF_TOKEN: 's3cret', NAME: 'x', PATH: '/opt/bin:/bin', LINES: 'a\nb' }
    const text = make().describe({ ...shell('true'), env })
    expect(text).toContain('--env HF_TOKEN --env NAME --env PATH=/opt/bin:/bin --env LINES ')
    expect(text).not.toContain('s3cret')
    const job = await submit(make(), { ...shell('echo "$HF_TOKEN $PATH"; echo "$LINES"'), env })
    expect((await told(make().watch(job, { signal }))).slice(1, -1)).toEqual(['s3cret /opt/bin:/bin', 'a', 'b'])
    logDir = await mkdtemp(join(tmpdir(), 'job-'))
    await expect(submit(make(), { ...shell('true'), env: { 'A B': '' } })).rejects.toThrow('no name of an environment')
  })

  it('gives NPUs as the DevServer guide does: devices, 60 GB of shared memory, drivers read-only', async () => {
    const text = make({ devices: [3, 5], network: 'host' }).describe({ ...shell('true'), devicesPerNode: 2 })
    for (const device of ['davinci_manager', 'devmm_svm', 'hisi_hdc', 'davinci3', 'davinci5'])
      expect(text).toContain(`--device /dev/${device}`)
    expect(text).toContain('--network host --shm-size 60g')
    // Of the guide's paths those that this machine has; every Linux machine has this one.
    expect(text).toContain('--mount type=bind,source=/etc/localtime,target=/etc/localtime,readonly')
    expect(() => make({ devices: [3] }).describe({ ...shell('true'), devicesPerNode: 2 })).toThrow('needs 2 NPUs')
  })

  it('says that there is no client', async () => {
    await expect(submit(make({ client: '/no/docker' }), shell('true'))).rejects.toThrow(
      'there is no program /no/docker',
    )
  })

  it("says in docker's own words what it refuses, and can be asked again", async () => {
    await expect(submit(make({ image: 'nosuch:1' }), shell('true'))).rejects.toMatchObject({
      code: 'job-failed',
      retryable: false,
      message: expect.stringContaining('No such image: nosuch:1'),
    })
    const job = await submit(make(), shell('true'))
    expect((await told(make().watch(job, { signal }))).at(-1)).toMatchObject({ state: 'succeeded' })
  })

  it('mounts what a launch reads read-only and what it writes writable, the least that does', async () => {
    const job = await submit(make({ keep: true }), {
      ...shell('true'),
      argv: [
        '/bin/sh',
        '-c',
        'true',
        { read: logDir },
        { write: join(logDir, 'out') },
        { read: join(logDir, 'no', '..') },
      ],
    })
    await told(make({ keep: true }).watch(job, { signal }))
    const { mounts } = await containerOf(String(job.container))
    expect(mounts).toEqual([{ type: 'bind', source: logDir, target: logDir }])
    await rm(join(state, String(job.container)), { recursive: true })
  })
})
