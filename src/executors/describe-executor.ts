import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Executor, JobHandle, JobUpdate } from '../flow/executor.ts'
import type { Launch, Word } from '../flow/launch.ts'

/** The two functions of a test runner that the suite needs: vitest's, jest's and node:test's all do. */
export interface TestRunner {
  describe(name: string, body: () => void): void
  it(name: string, body: () => Promise<void>): void
}

/**
 * Declares the tests that every executor must pass. It must run jobs for real, with a POSIX shell and the paths of
 * this machine. With `nodes`, two or more, jobs of that many nodes are tested too.
 */
export function describeExecutor(
  name: string,
  make: () => Executor,
  { describe, it }: TestRunner,
  { nodes = 1 }: { readonly nodes?: number } = {},
): void {
  const test = (title: string, body: (tools: Tools) => Promise<void>) =>
    it(title, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'ascendflow-executor-'))
      try {
        await body(toolsFor(make, dir))
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    })

  if (nodes > 1) describeNodes(name, { describe, test, nodes })
  describe(`executor ${name}`, () => {
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

    test('cancels all processes, those who ignore TERM included', async ({ submit, firstLine, cancel, end }) => {
      const mark = `600.${randomInt(1e9)}`
      const job = await submit(shell(`trap "" TERM; sleep ${mark} & echo up; wait; sleep ${mark}`))
      await firstLine(job)
      assert.equal(processesWith(mark).length > 0, true)
      await cancel(job)
      assert.deepEqual(processesWith(mark), [])
      assert.equal((await end(job)).last.state, 'cancelled')
    })

    test('cancels processes that made a session of their own, as workers of torchrun do', async tools => {
      const mark = `600.${randomInt(1e9)}`
      const job = await tools.submit(shell(`setsid sh -c 'echo up; exec sleep ${mark}' & wait; sleep ${mark}`))
      await tools.firstLine(job)
      await tools.cancel(job)
      assert.deepEqual(processesWith(mark), [])
    })

    test('leaves nothing behind that a command started in the background', async ({ submit, end, dir }) => {
      const mark = `600.${randomInt(1e9)}`
      const script = `setsid sh -c 'echo > "$0"; exec sleep ${mark}' "$0" & sleep ${mark} & until [ -s "$0" ]; do :; done`
      const { last } = await end(await submit(launch(['/bin/sh', '-c', script, { write: join(dir, 'is-up') }])))
      assert.equal(last.state, 'succeeded')
      assert.deepEqual(processesWith(mark), [])
    })

    test('tells a cancelled job from one that failed, also when its command ends at once', async tools => {
      const job = await tools.submit(shell('trap "echo ending; exit 3" TERM; echo up; sleep 600 & wait'))
      await tools.firstLine(job)
      await tools.cancel(job)
      const { lines, last } = await tools.end(job)
      assert.deepEqual([lines, last.state], [['up', 'ending'], 'cancelled'])
    })

    test('passes on the bytes of the output as text, whatever they are', async ({ submit, end }) => {
      const { lines } = await end(await submit(shell("printf '中文\\r\\n\\342\\200\\250x\\n\\377\\n'")))
      assert.deepEqual(lines, ['中文', '\u2028x', '\ufffd'])
    })

    test('leaves a job that has ended alone when it is cancelled', async ({ submit, cancel, end }) => {
      const job = await submit(shell('echo one'))
      await end(job)
      await cancel(job)
      assert.equal((await end(job)).last.state, 'succeeded')
    })
  })
}

function describeNodes(
  name: string,
  {
    describe,
    test,
    nodes,
  }: {
    readonly describe: TestRunner['describe']
    readonly test: (title: string, body: (tools: Tools) => Promise<void>) => void
    readonly nodes: number
  },
): void {
  const ranks = Array.from({ length: nodes }, (_, rank) => rank)
  const onAll = (script: string, ...words: Word[]): Launch => ({
    ...launch(['/bin/sh', '-c', script, ...words]),
    nodes,
  })

  describe(`executor ${name}, ${nodes} nodes`, () => {
    test('gives each node a rank of its own, all the same meeting point, and tells whose line is whose', async tools => {
      const place: Word[] = (['rank', 'count', 'masterAddr', 'masterPort'] as const).map(node => ({ node }))
      const { logs, last } = await tools.end(await tools.submit(onAll('echo "$@"', 'sh', ...place)))
      const said = logs.map(({ node, line }) => ({ node, words: line.split(' ') })).sort((a, b) => a.node! - b.node!)
      assert.deepEqual(
        said.map(({ node, words }) => [node, ...words.slice(0, 2)]),
        ranks.map(rank => [rank, String(rank), String(nodes)]),
      )
      assert.equal(new Set(said.map(({ words }) => words.slice(2).join(' '))).size, 1)
      assert.match(said[0]!.words.slice(2).join(' '), /^\S+ \d+$/)
      assert.equal(last.state, 'succeeded')
    })

    test('ends all nodes when one fails, and tells its exit code', async ({ submit, end }) => {
      const mark = `600.${randomInt(1e9)}`
      const script = `[ "$0" != ${nodes - 1} ] || exit 5; sleep ${mark}`
      const { last } = await end(await submit(onAll(script, { node: 'rank' })))
      assert.deepEqual([last.state, last.exitCode], ['failed', 5])
      assert.deepEqual(processesWith(mark), [])
    })

    test('cancels all nodes', async ({ submit, watch, cancel, end }) => {
      const mark = `600.${randomInt(1e9)}`
      const job = await submit(onAll(`echo up; sleep ${mark}`))
      const up = new Set<number | undefined>()
      for await (const update of watch(job, new AbortController().signal)) {
        if (update.type === 'log') up.add(update.node)
        if (up.size === nodes) break
      }
      assert.equal(processesWith(mark).length > 0, true)
      await cancel(job)
      assert.deepEqual(processesWith(mark), [])
      assert.equal((await end(job)).last.state, 'cancelled')
    })

    test('starts each node once when the same id is submitted again', async ({ submit, end }) => {
      const counted = onAll('echo started')
      const [first, second] = await Promise.all([submit(counted), submit(counted)])
      const lines = ranks.map(() => 'started')
      assert.deepEqual((await end(first)).lines, lines)
      assert.deepEqual((await end(second)).lines, lines)
      assert.deepEqual((await end(await submit(counted))).lines, lines)
    })
  })
}

interface Tools {
  readonly dir: string
  submit(launch: Launch): Promise<JobHandle>
  watch(job: JobHandle, signal: AbortSignal): AsyncIterable<JobUpdate>
  cancel(job: JobHandle): Promise<void>
  /** Resolves with the first line of output. */
  firstLine(job: JobHandle): Promise<string | undefined>
  end(job: JobHandle): Promise<{
    readonly lines: readonly string[]
    readonly logs: readonly Extract<JobUpdate, { type: 'log' }>[]
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
    firstLine: async job => {
      for await (const update of make().watch(job, { signal })) if (update.type === 'log') return update.line
      return undefined
    },
    end: async job => {
      const logs: Extract<JobUpdate, { type: 'log' }>[] = []
      const states: Extract<JobUpdate, { type: 'state' }>[] = []
      for await (const update of make().watch(job, { signal })) {
        if (update.type === 'log') logs.push(update)
        else states.push(update)
      }
      return { lines: logs.map(({ line }) => line), logs, last: states.at(-1)! }
    },
  }
}

const launch = (argv: readonly Word[]): Launch => ({ argv, nodes: 1, devicesPerNode: 0 })
const shell = (script: string): Launch => launch(['/bin/sh', '-c', script])

/** Command lines on this machine with the words of `mark`: containers of this machine count, which pids would not find. */
function processesWith(mark: string): readonly string[] {
  const all =
    process.platform === 'linux'
      ? readdirSync('/proc')
          .filter(entry => /^\d+$/.test(entry))
          .map(commandLine)
      : execFileSync('ps', ['-A', '-o', 'args='], { encoding: 'utf8' }).split('\n')
  return all.filter(line => line.includes(`sleep ${mark}`))
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}
