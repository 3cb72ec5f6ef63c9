import assert from 'node:assert/strict'
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Executor, JobHandle, JobUpdate } from '../flow/executor.ts'
import type { Launch, Word } from '../flow/launch.ts'
import { processIdentity } from '../process-identity.ts'

/** The two functions of a test runner that the suite needs: vitest's, jest's and node:test's all do. */
export interface TestRunner {
  describe(name: string, body: () => void): void
  it(name: string, body: () => Promise<void>): void
}

/**
 * Declares the tests that every executor must pass. It must run jobs for real, with a POSIX shell and the paths of
 * this machine.
 */
export function describeExecutor(name: string, make: () => Executor, { describe, it }: TestRunner): void {
  describe(`executor ${name}`, () => {
    const test = (title: string, body: (tools: Tools) => Promise<void>) =>
      it(title, async () => {
        const dir = await mkdtemp(join(tmpdir(), 'ascendflow-executor-'))
        try {
          await body(toolsFor(make, dir))
        } finally {
          await rm(dir, { recursive: true, force: true })
        }
      })

    test('streams output in order and tells success', async ({ submit, end }) => {
      const { lines, last } = await end(await submit(shell('for i in 1 2 3; do echo "line $i"; done')))
      assert.deepEqual(lines, ['line 1', 'line 2', 'line 3'])
      assert.equal(last.state, 'succeeded')
    })

    test('tells the exit code of a failed command, and its last unfinished line', async ({ submit, end }) => {
      const { lines, last } = await end(await submit(shell('printf "no newline"; exit 7')))
      assert.deepEqual([lines, last.state, last.exitCode], [['no newline'], 'failed', 7])
    })

    test('tells that a command cannot be started', async ({ submit, end }) => {
      const { last } = await end(await submit(launch(['/no/such/command'])))
      assert.equal(last.state, 'failed')
    })

    test('passes every word of the command unchanged', async ({ submit, end, dir }) => {
      const words = ['two words', '$(id)', `"';&|`, '中文', '', 'a\nb']
      const out = join(dir, 'words')
      await end(await submit(launch(['/bin/sh', '-c', 'printf "%s\\0" "$@" > "$0"', { write: out }, ...words])))
      assert.deepEqual((await readFile(out, 'utf8')).split('\0').slice(0, -1), words)
    })

    test('fills in what a node knows of its place', async ({ submit, end }) => {
      const place: Word[] = (['rank', 'count', 'masterAddr', 'masterPort'] as const).map(node => ({ node }))
      const { lines } = await end(await submit(launch(['/bin/echo', ...place])))
      assert.match(lines[0] ?? '', /^0 1 \S+ \d+$/)
    })

    test('gives the environment of the launch', async ({ submit, end }) => {
      const { lines } = await end(await submit({ ...shell('echo "$GREETING"'), env: { GREETING: 'hello $HOME' } }))
      assert.deepEqual(lines, ['hello $HOME'])
    })

    test('runs the command in the folder of the launch', async ({ submit, end, dir }) => {
      const { lines } = await end(await submit({ ...shell('pwd'), dir }))
      assert.deepEqual(lines, [await realpath(dir)])
    })

    test('tells that the folder of the launch is not there', async ({ submit, end, dir }) => {
      assert.equal((await end(await submit({ ...shell('pwd'), dir: join(dir, 'nowhere') }))).last.state, 'failed')
    })

    test('starts nothing when the same id is submitted again', async ({ submit, end, dir }) => {
      const counted = launch(['/bin/sh', '-c', 'echo started >> "$0"', { write: join(dir, 'starts') }])
      const [first, second] = await Promise.all([submit(counted), submit(counted)])
      await end(first)
      await end(second)
      await end(await submit(counted))
      assert.equal(await readFile(join(dir, 'starts'), 'utf8'), 'started\n')
    })

    test('can be watched again, from the first line, by another that was made later', async ({ submit, end }) => {
      const job = await submit(shell('echo one; echo two'))
      const first = await end(job)
      assert.deepEqual(await end(JSON.parse(JSON.stringify(job))), first)
    })

    test('stops watching when its signal is aborted, and the job goes on', async ({ submit, end, watch }) => {
      const job = await submit(shell('echo begun; sleep 0.3; echo done'))
      const controller = new AbortController()
      await assert.rejects(async () => {
        for await (const update of watch(job, controller.signal)) if (update.type === 'log') controller.abort()
      })
      assert.deepEqual((await end(job)).lines, ['begun', 'done'])
    })

    test('cancels the whole process group, those who ignore TERM included', async ({ submit, watch, cancel, end }) => {
      const job = await submit(shell('trap "" TERM; sleep 600 & echo "$!"; wait; sleep 600'))
      let pid = 0
      for await (const update of watch(job, new AbortController().signal)) {
        if (update.type !== 'log') continue
        pid = Number(update.line)
        break
      }
      await cancel(job)
      assert.equal(processIdentity(pid), undefined)
      assert.equal((await end(job)).last.state, 'cancelled')
    })

    test('leaves a job that has ended alone when it is cancelled', async ({ submit, cancel, end }) => {
      const job = await submit(shell('echo one'))
      await end(job)
      await cancel(job)
      assert.equal((await end(job)).last.state, 'succeeded')
    })
  })
}

interface Tools {
  readonly dir: string
  submit(launch: Launch): Promise<JobHandle>
  watch(job: JobHandle, signal: AbortSignal): AsyncIterable<JobUpdate>
  cancel(job: JobHandle): Promise<void>
  end(job: JobHandle): Promise<{
    readonly lines: readonly string[]
    readonly last: Extract<JobUpdate, { type: 'state' }>
  }>
}

/** A new executor for every call: nothing may depend on what one remembers. */
function toolsFor(make: () => Executor, dir: string): Tools {
  const signal = new AbortController().signal
  return {
    dir,
    submit: launch => make().submit(launch, { id: 'job-1', logDir: dir, signal }),
    watch: (job, until) => make().watch(job, { signal: until }),
    cancel: job => make().cancel(job),
    end: async job => {
      const lines: string[] = []
      const states: Extract<JobUpdate, { type: 'state' }>[] = []
      for await (const update of make().watch(job, { signal })) {
        if (update.type === 'log') lines.push(update.line)
        else states.push(update)
      }
      return { lines, last: states.at(-1)! }
    },
  }
}

const launch = (argv: readonly Word[]): Launch => ({ argv, nodes: 1, devicesPerNode: 0 })
const shell = (script: string): Launch => launch(['/bin/sh', '-c', script])
