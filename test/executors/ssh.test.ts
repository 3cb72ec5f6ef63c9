import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type JobHandle, type JobUpdate, type Launch, type SshOptions, ssh } from 'ascendflow'
import { describeExecutor } from 'ascendflow/testing'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { processIdentity } from '../../src/process-identity.ts'
import { missingServer, type SshServer, sshServer } from './ssh-server.ts'

const reason = missingServer()
const signal = new AbortController().signal
const shell = (script: string, ...words: string[]): Launch => ({
  ...{ argv: ['/bin/sh', '-c', script, ...words], nodes: 1, devicesPerNode: 0 },
})

describe.skipIf(reason)(`ssh${reason ? ` (${reason})` : ''}`, () => {
  let dir: string
  let logDir: string
  let one: SshServer
  let two: SshServer
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ssh-'))
    one = await sshServer(join(dir, 'one'))
    two = await sshServer(join(dir, 'two'), { address: '127.0.0.2', keysOf: join(dir, 'one') })
  })
  beforeEach(async () => {
    logDir = await mkdtemp(join(dir, 'log-'))
  })
  afterAll(async () => {
    await one?.stop()
    await two?.stop()
    await rm(dir, { recursive: true, force: true, maxRetries: 3 })
  })

  const hostsOf = (more: Partial<SshOptions> = {}) => ({
    ...{ hosts: [one.host], ...one.options, jobRoot: join(dir, 'jobs'), sharedRoot: tmpdir(), killAfterMs: 1_000 },
    ...more,
  })
  const make = (more: Partial<SshOptions> = {}) => ssh(hostsOf(more))
  const submit = (launch: Launch, more = {}) => make(more).submit(launch, { id: 'train-1', logDir, signal })
  const told = async (job: JobHandle, onUpdate: (update: JobUpdate) => unknown = () => {}, more = {}) => {
    const all: (string | JobUpdate)[] = []
    for await (const update of make(more).watch(job, { signal })) {
      await onUpdate(update)
      all.push(update.type === 'log' ? update.line : update)
    }
    return all
  }

  describeExecutor('ssh, shared folder', make, { describe, it })
  describeExecutor('ssh, copied files', () => make({ sharedRoot: [] }), { describe, it })

  it('loses and repeats nothing when the connection is cut again and again', async () => {
    const job = await submit(shell('i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo "第 $i 行"; sleep 0.01; done'))
    let cuts = 0
    const lines = await told(job, update => {
      if (update.type === 'log' && / (20|90|150) /.test(update.line)) cuts += one.cut() > 0 ? 1 : 0
    })
    expect(cuts).toBe(3)
    expect(lines.slice(1)).toEqual([
      ...Array.from({ length: 200 }, (_, n) => `第 ${n + 1} 行`),
      { type: 'state', state: 'succeeded', exitCode: 0 },
    ])
  })

  it('goes on when the shared connection is closed, and when the server is restarted', async () => {
    const job = await submit(shell('echo one; until [ -e "$0" ]; do sleep 0.05; done; echo two', join(logDir, 'go')))
    const lines = await told(job, async update => {
      if (update.type !== 'log' || update.line !== 'one') return
      await one.stop()
      await one.start()
      await writeFile(join(logDir, 'go'), '')
    })
    expect(lines.slice(1, -1)).toEqual(['one', 'two'])
  })

  it('cancels over a connection that is cut meanwhile', async () => {
    const job = await submit(shell('trap "" TERM; echo "$$"; sleep 600'))
    let pid = ''
    for await (const update of make().watch(job, { signal }))
      if (update.type === 'log') {
        pid = update.line
        break
      }
    const cancelling = make({ killAfterMs: 500 }).cancel(job)
    const cutter = setInterval(() => one.cut(), 150)
    setTimeout(() => clearInterval(cutter), 600)
    await cancelling
    clearInterval(cutter)
    expect(processIdentity(Number(pid))).toBeUndefined()
    expect((await told(job)).at(-1)).toEqual({ type: 'state', state: 'cancelled' })
  })

  it('leaves nothing on the host when the end is kept here, and shows no environment in a list of processes', async () => {
    const job = await submit({
      ...shell('cat /proc/$PPID/cmdline; ls "$0"', join(dir, 'jobs')),
      env: { HF_TOKEN: 's3cret' },
    })
    const text = (await told(job)).join('\n')
    expect(text).toContain('ascendflow-train-1-')
    expect(text).not.toContain('s3cret')
    expect((await readdir(join(dir, 'jobs'))).filter(name => name.includes('ascendflow-train-1-'))).toEqual([])
  })

  it('says that a job is lost when its leader was killed, and ends what it left', async () => {
    const job = await submit(shell('setsid sleep 600 & echo "$!"; wait'))
    let child = ''
    const all = await told(job, async update => {
      if (update.type !== 'log') return
      child = update.line
      const { places } = job as unknown as { places: [{ root: string; job: string }] }
      const [leader] = (await readFile(join(places[0].root, places[0].job, 'process'), 'utf8')).split(' ')
      process.kill(-Number(leader), 'SIGKILL')
    })
    expect(all.at(-1)).toMatchObject({ state: 'lost', reason: expect.stringContaining('left no exit status') })
    expect(processIdentity(Number(child))).toBeUndefined()
  })

  it('says that a job is lost when its host stays out of reach, and cannot say that it is cancelled', async () => {
    const job = await submit(shell('echo up; sleep 600'))
    await one.stop()
    try {
      await expect(make({ lostAfterMs: 300 }).cancel(job)).rejects.toMatchObject({
        code: 'job-failed',
        retryable: true,
      })
      expect((await told(job, undefined, { lostAfterMs: 300 })).at(-1)).toMatchObject({ state: 'lost' })
    } finally {
      await one.start()
    }
    await rm(join(logDir, 'updates.jsonl'))
    await make().cancel(job)
  })

  it('ends what an earlier try left running on a host that was out of reach, and takes other hosts first', async () => {
    const hosts = [one.host, two.host]
    const options = { hosts, knownHostsFile: one.options.knownHostsFile, lostAfterMs: 300 }
    const launch = shell('echo $$; exec sleep 600')
    const first = await submit(launch, options)
    let pid = 0
    const story = (async () => {
      const all: JobUpdate[] = []
      for await (const update of make(options).watch(first, { signal })) {
        all.push(update)
        if (update.type !== 'log') continue
        pid = Number(update.line)
        await one.stop()
      }
      return all.at(-1)
    })()
    expect(await story).toMatchObject({ state: 'lost', reason: expect.stringContaining('out of reach') })
    expect(processIdentity(pid)).toBeDefined()
    await one.start()
    const avoid = [{ job: first, node: 0 }]
    const again = await mkdtemp(join(dir, 'log-'))
    const second = await make(options).submit(launch, { id: 'train-2', logDir: again, signal, avoid })
    expect(second).toMatchObject({ hosts: [{ name: two.host.name }], leftOut: [one.host.name] })
    expect(processIdentity(pid)).toBeUndefined()
    await make(options).cancel(second)
    const both = { ...shell('true'), nodes: 2 }
    const third = await make(options).submit(both, { id: 'train-3', logDir, signal, avoid })
    expect(third).toMatchObject({ hosts: [{ name: two.host.name }, { name: one.host.name }] })
    expect(third.leftOut).toBeUndefined()
    for await (const _ of make(options).watch(third, { signal }));
  })

  it('refuses a host whose key is not known, at once', async () => {
    await writeFile(join(logDir, 'none'), '')
    const submitted = submit(shell('true'), { knownHostsFile: join(logDir, 'none') })
    await expect(submitted).rejects.toMatchObject({
      code: 'job-failed',
      retryable: false,
      hint: expect.stringContaining('known hosts'),
    })
  })

  it('refuses names that ssh would take for options', () => {
    for (const host of ['-oProxyCommand=id', 'a b', 'a;b', '-l@x', ''])
      expect(() => make({ hosts: [host] })).toThrow('is no host')
  })

  it('copies files whose names begin like a path, both ways, and passes their contents on', async () => {
    const here = join(logDir, 'data set')
    await mkdir(here)
    for (const name of ['text.bin', 'text.idx', 'other.bin']) await writeFile(join(here, name), name)
    const job = await submit(
      {
        ...shell(''),
        argv: [
          '/bin/sh',
          '-c',
          'ls "$(dirname "$0")" && cp "$0.idx" "$1.idx" && mkdir "$2" && echo 3 > "$2/tracker"',
          { read: join(here, 'text') },
          { write: join(logDir, 'out', 'copy') },
          { write: join(logDir, 'saved') },
        ],
      },
      { sharedRoot: [] },
    )
    expect((await told(job, undefined, { sharedRoot: [] })).slice(1)).toEqual([
      'text.bin',
      'text.idx',
      expect.objectContaining({ state: 'succeeded' }),
    ])
    expect(await readFile(join(logDir, 'out', 'copy.idx'), 'utf8')).toBe('text.idx')
    expect(await readFile(join(logDir, 'saved', 'tracker'), 'utf8')).toBe('3\n')
  })

  describe('with two hosts', () => {
    const both = () => ({ hosts: [one.host, two.host], networkInterface: 'lo' })
    describeExecutor('ssh', () => make(both()), { describe, it }, { nodes: 2 })

    it('tells HCCL and Gloo of the address and interface of each node', async () => {
      const script = 'echo "$HCCL_IF_IP $HCCL_SOCKET_IFNAME $GLOO_SOCKET_IFNAME $HCCL_CONNECT_TIMEOUT"'
      const job = await submit({ ...shell(script), nodes: 2 }, both())
      const lines = (await told(job, undefined, both())).slice(1, -1).sort()
      expect(lines).toEqual(['127.0.0.1 lo lo 1800', '127.0.0.2 lo lo 1800'])
    })

    it('starts nothing anywhere when one host refuses, and the same id can be submitted again', async () => {
      const wrong = { ...both(), hosts: [one.host, { ...two.host, user: 'nobody-of-this-name' }] }
      await expect(submit({ ...shell('echo ran'), nodes: 2 }, wrong)).rejects.toMatchObject({ code: 'job-failed' })
      const job = await submit({ ...shell('echo ran'), nodes: 2 }, both())
      expect((await told(job, undefined, both())).slice(1, -1)).toEqual(['ran', 'ran'])
    })
  })
})
