import { spawn } from 'node:child_process'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { local } from 'ascendflow'
import { describeExecutor } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { jobLives } from '../../src/executors/local/process-group.ts'
import { processIdentity } from '../../src/process-identity.ts'

describeExecutor('local', () => local({ killAfterMs: 1_000 }), { describe, it })

const signal = new AbortController().signal
const sleeper = { argv: ['/bin/sh', '-c', 'echo up; sleep 600'], nodes: 1, devicesPerNode: 0 }

async function firstLine(job: Awaited<ReturnType<ReturnType<typeof local>['submit']>>) {
  for await (const update of local().watch(job, { signal })) if (update.type === 'log') return update.line
}

describe('local', () => {
  it('tells that a job is lost when its leader was killed, and ends what it left behind', async () => {
    const logDir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
    const job = await local().submit(sleeper, { id: 'x', logDir, signal })
    await firstLine(job)
    const leader = JSON.parse(await readFile(join(logDir, 'process.json'), 'utf8'))
    process.kill(leader.pid, 'SIGKILL')
    const states: string[] = []
    for await (const update of local().watch(job, { signal })) if (update.type === 'state') states.push(update.state)
    expect(states).toEqual(['running', 'lost'])
    expect(jobLives({ leader, dir: logDir })).toBe(false)
  })

  it('does not mistake another process with the same pid for its job', async () => {
    const logDir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
    const bystander = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' })
    const identity = processIdentity(bystander.pid!)!
    const job = { executor: 'local', id: 'x', dir: logDir, leader: { ...identity, started: 'another boot:1' } }
    await local().cancel(job)
    const states: string[] = []
    for await (const update of local().watch(job, { signal })) if (update.type === 'state') states.push(update.state)
    expect(states).toEqual(['running', 'lost'])
    expect(processIdentity(bystander.pid!)).toEqual(identity)
    bystander.kill('SIGKILL')
  })

  it('outlives the process that submitted it and is found again by another', async () => {
    const logDir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
    const script = `
      import { local } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}
      const job = await local().submit(
        { argv: ['/bin/sh', '-c', 'echo "$$"; sleep 0.3; echo end'], nodes: 1, devicesPerNode: 0 },
        { id: 'x', logDir: ${JSON.stringify(logDir)}, signal: new AbortController().signal })
      process.stdout.write(JSON.stringify(job))
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let told = ''
    for await (const chunk of child.stdout) told += chunk
    const lines: string[] = []
    for await (const update of local().watch(JSON.parse(told), { signal }))
      lines.push(update.type === 'log' ? update.line : update.state)
    expect(lines.at(-2)).toBe('end')
    expect(lines.at(-1)).toBe('succeeded')
  })

  it('shows no environment value whose name speaks of a secret', () => {
    const env = { HF_TOKEN: 's3cret', OBS_SK: 's3cret', API_KEY: 's3cret', KEYBOARD: 'us' }
    expect(local().describe({ argv: ['x'], env, nodes: 1, devicesPerNode: 0 })).toBe(
      'HF_TOKEN=… OBS_SK=… API_KEY=… KEYBOARD=us x',
    )
  })

  it('shows its command as a line that a shell reads back', () => {
    const text = local().describe({
      argv: ['echo', "it's", { read: '/a b' }, 3],
      env: { A: 'x y' },
      nodes: 1,
      devicesPerNode: 0,
    })
    expect(text).toBe(`A='x y' echo 'it'\\''s' '/a b' 3`)
  })
})
