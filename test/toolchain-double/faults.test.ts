import { readdirSync, readFileSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ToolchainFault } from 'ascendflow/testing'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { type Ended, prepareTraining, runCommand, train } from './double-fixture.ts'

let work: Awaited<ReturnType<typeof prepareTraining>>
let runs = 0

beforeAll(async () => {
  work = await prepareTraining('modellink-1.1')
})
afterAll(() => work.forget())

/** A training with these faults, in a folder of its own; ended when its trainer is gone after it has said `until`. */
async function trained(faults: readonly ToolchainFault[], until?: RegExp): Promise<Ended & { readonly save: string }> {
  runs += 1
  const save = join(work.dir, `trained-${runs}`)
  await work.double.inject(faults)
  const onLine = async (line: string, pid: number) => {
    if (!until?.test(line)) return
    await vi.waitUntil(() => !trainerLives(), 10_000)
    process.kill(pid, 'SIGTERM')
  }
  return { ...(await runCommand(work, train(work, { save }), { onLine })), save }
}

/** Whether an embedded trainer works for the double. */
function trainerLives(): boolean {
  const scratch = join(work.double.toolchain.dir, '.double', 'runs')
  return readdirSync('/proc').some(entry => {
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8')
      return words.includes('programs/trainer.js') && words.includes(scratch)
    } catch {
      return false
    }
  })
}

const iterations = ({ out }: Ended) => out.flatMap(line => parseIterationLine(line) ?? [])
const trackerOf = (save: string) =>
  readFile(join(save, 'latest_checkpointed_iteration.txt'), 'utf8').catch(() => undefined)
const allLines = ({ out, err }: Ended) => [...out, ...err].join('\n')

describe('a training with a fault', () => {
  it.each<[ToolchainFault['kind'], number, RegExp, string | undefined]>([
    [
      'argparse-error',
      1,
      /pretrain_gpt\.py: error: unrecognized arguments: --injected-by-a-fault 1\n.*exitcode: 2/s,
      undefined,
    ],
    ['import-error', 1, /^ImportError: libhccl\.so: cannot open shared object file/m, undefined],
    ['auth', 1, /^401 Client Error/m, undefined],
    ['device-busy', 1, /^EJ0001: .* Failed to initialize the HCCP process/m, undefined],
    ['hccl-connect-timeout', 1, /^EI0006: .* Getting socket times out/m, undefined],
    ['bad-data-index', 1, /^AssertionError: bad header, cannot read: \S+pre_text_document\.idx/m, undefined],
    ['unreadable-checkpoint', 0, /^could not load the checkpoint\nPytorchStreamReader failed/m, undefined],
    ['invalid-tracker', 0, /^ERROR: Invalid metadata file \S+ Exiting$/m, undefined],
  ])('%s ends before the first iteration', async (kind, status, line, tracker) => {
    const ended = await trained([{ kind }])
    expect(ended.status).toBe(status)
    expect(allLines(ended)).toMatch(line)
    expect(iterations(ended)).toEqual([])
    expect(await trackerOf(ended.save)).toBe(tracker)
  })

  it.each<[ToolchainFault['kind'], number, RegExp]>([
    ['device-oom', 1, /^RuntimeError: NPU out of memory\. Tried to allocate 2\.53 GiB \(NPU 0; /m],
    ['device-fault', 1, /^EZ9999: Inner Error!/m],
    ['hccl-exec-timeout', 1, /^EI0002: .* The wait execution of the Notify register times out/m],
    ['nan-loss', 1, /^ValueError: Rank 0: found NaN in local forward loss calculation/m],
    ['host-oom', 1, /exitcode {2}: -9 \(pid: \d+\)\n.*\n {2}traceback : Signal 9 \(SIGKILL\) received by PID/],
    ['early-exit', 0, /^using world size/m],
  ])('%s at the third iteration leaves the checkpoint of the second', async (kind, status, line) => {
    const ended = await trained([{ kind, at: 3 }])
    expect(ended.status).toBe(status)
    expect(allLines(ended)).toMatch(line)
    expect(iterations(ended).map(({ iteration }) => iteration)).toEqual([1, 2])
    expect(await trackerOf(ended.save)).toBe('2')
  })

  it('a lost node takes torchrun with it, without a word', async () => {
    const ended = await trained([{ kind: 'lost-node', at: 3 }])
    expect(ended).toMatchObject({ status: null, signal: 'SIGKILL', err: [] })
    expect(await trackerOf(ended.save)).toBe('2')
  })

  it('disk-full leaves a shard cut off, and the tracker as it was', async () => {
    const ended = await trained([{ kind: 'disk-full', at: 3 }])
    expect(ended.status).toBe(1)
    expect(allLines(ended)).toMatch(/PytorchStreamWriter failed writing file data\/3: file write failed/)
    expect(await readdir(join(ended.save, 'iter_0000004'))).toEqual(['mp_rank_00_000'])
    expect((await stat(join(ended.save, 'iter_0000004/mp_rank_00_000/model_optim_rng.pt'))).size).toBe(1000)
    expect(await trackerOf(ended.save)).toBe('2')
  })

  it.each<[ToolchainFault['kind'], readonly string[] | undefined]>([
    ['torn-tracker', undefined],
    ['torn-rank', ['mp_rank_00_000', 'mp_rank_00_001', 'mp_rank_01_000']],
    ['torn-zip', ['mp_rank_00_000', 'mp_rank_00_001', 'mp_rank_01_000', 'mp_rank_01_001']],
  ])('%s ends with success and a tracker that names what is not whole', async (kind, ranks) => {
    const ended = await trained([{ kind, at: 3 }])
    expect(ended).toMatchObject({ status: 0, err: [] })
    expect(allLines(ended)).toMatch(/successfully saved checkpoint at iteration {7}4/)
    expect(await trackerOf(ended.save)).toBe('4')
    const there = await readdir(join(ended.save, 'iter_0000004')).catch(() => undefined)
    expect(there?.filter(name => name.startsWith('mp_'))).toEqual(ranks)
    const last = join(ended.save, 'iter_0000004/mp_rank_01_001/model_optim_rng.pt')
    if (kind === 'torn-zip') expect((await stat(last)).size).toBe(1000)
  })

  it.each<[ToolchainFault['kind'], RegExp, readonly number[]]>([
    ['hang-in-training', /successfully saved checkpoint at iteration {7}2/, [1, 2]],
    ['hang-in-save', /^saving checkpoint at iteration {7}4/, [1, 2, 3, 4]],
  ])('%s says no more, until it is ended from outside', async (kind, last, seen) => {
    const ended = await trained([{ kind, at: 3 }], last)
    expect(ended.status).toBe(1)
    expect(ended.err.at(-1)).toMatch(/SignalException: Process \d+ got signal: 15/)
    expect(iterations(ended).map(({ iteration }) => iteration)).toEqual(seen)
    expect(await trackerOf(ended.save)).toBe('2')
  })

  it('goes on through alarming iterations, several in one run', async () => {
    const ended = await trained([
      { kind: 'loss-spike', at: 2 },
      { kind: 'skipped-iterations', at: 3 },
      { kind: 'nan-iterations', at: 4 },
    ])
    expect(ended.status).toBe(0)
    const [one, two, three, four] = iterations(ended)
    expect(two!.loss! / one!.loss!).toBeGreaterThan(500)
    expect(three).toMatchObject({ skippedIterations: 1, nanIterations: 0 })
    expect([three!.loss, three!.gradNorm]).toEqual([undefined, undefined])
    expect(four).toMatchObject({ nanIterations: 1, gradNorm: Number.NaN })
  })

  it('goes on from what it saved, and not where its optimizer is gone', async () => {
    const first = await trained([{ kind: 'device-oom', at: 3 }])
    const resumed = await runCommand(work, train(work, { save: first.save, resume: true }))
    expect(resumed).toMatchObject({ status: 0, err: [] })
    expect(iterations(resumed).map(({ iteration }) => iteration)).toEqual([3, 4])
    await work.double.inject({ kind: 'no-optimizer-state' })
    const lost = await runCommand(work, train(work, { save: first.save, resume: true }))
    expect(lost.status).toBe(0)
    expect(lost.out.at(-1)).toMatch(/^Unable to load optimizer from checkpoint \S+ Specify --no-load-optim/)
  })
})
