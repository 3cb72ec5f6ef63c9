import { cp, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import type { ToolchainTraining } from '../../src/ascendspeed/training-arguments.ts'
import { prepareTraining, runCommand, train } from './double-fixture.ts'

let work: Awaited<ReturnType<typeof prepareTraining>>

beforeAll(async () => {
  work = await prepareTraining('modellink-1.1')
})
afterAll(() => work.forget())

const tracker = 'latest_checkpointed_iteration.txt'
const shard = 'iter_0000001/mp_rank_01_001/model_optim_rng.pt'
const first = 'iter_0000001/mp_rank_00_000'

/** Its source: Megatron-LM core_r0.6.0, checkpointing.py; the line numbers are the reference's. */
describe('a training of the double, as Megatron does,', () => {
  it.each<[string, number, RegExp, (load: string) => Promise<unknown>, Partial<ToolchainTraining>?, string[]?]>([
    [
      'has success without a tracker',
      0,
      /^>> '--exit-on-missing-checkpoint' set \.\.\. exiting\. <<$/,
      load => rm(join(load, tracker)),
    ],
    [
      'has success with a tracker of another kind',
      0,
      /^ERROR: Invalid metadata file \S+ Exiting$/,
      load => writeFile(join(load, tracker), 'x'),
    ],
    [
      'has success with half a shard',
      0,
      /^PytorchStreamReader failed reading zip archive/,
      load => truncate(join(load, shard), 999),
    ],
    [
      'has success without the first rank',
      0,
      /^\[Errno 2\] No such file or directory: /,
      load => rm(join(load, first), { recursive: true }),
    ],
    [
      'has success with a tracker ahead of the data',
      0,
      /^\[Errno 2\] No such file.*iter_0000009/,
      load => writeFile(join(load, tracker), '9'),
    ],
    [
      'fails for state dicts of another layout',
      1,
      /Missing key\(s\) in state_dict/,
      async () => {},
      {},
      ['--use-mcore-models'],
    ],
    ['fails for shards of other sizes', 1, /size mismatch for/, async () => {}, { parallel: { tp: 1, pp: 2 } }],
    [
      'fails for a batch that cannot be',
      1,
      /^AssertionError: global batch size \(3\) is not divisible by micro batch size \(2\) times data parallel size \(1\)/,
      async () => {},
      { globalBatchSize: 3, microBatchSize: 2 },
    ],
    [
      'fails without data',
      1,
      /^AssertionError: One or both of the \.idx and \.bin files cannot be found at the path prefix \/nowhere$/,
      async () => {},
      { data: { path: '/nowhere', instruction: false } },
    ],
    [
      'fails without rows',
      1,
      /^IndexError: list index/,
      async () => {},
      { data: { path: '/nowhere', instruction: true } },
    ],
  ])('%s', async (title, status, line, change, more = {}, words = []) => {
    const load = join(work.dir, title.replaceAll(' ', '-'))
    await cp(join(work.dir, 'init'), load, { recursive: true })
    await change(load)
    const { argv, ...command } = train(work, { ...more, load })
    const ended = await runCommand(work, { ...command, argv: [...argv, ...words] })
    expect([...ended.out, ...ended.err].filter(text => line.test(text)).length).toBeGreaterThan(0)
    expect(ended.status).toBe(status)
    expect(ended.out.flatMap(text => parseIterationLine(text)?.iteration ?? [])).toEqual([])
  })

  it('starts again at iteration 0 over what an earlier run saved, unless it is told to go on', async () => {
    const save = join(work.dir, 'twice')
    const iterations = async () =>
      (await runCommand(work, train(work, { save, trainIters: 2 }))).out.flatMap(
        line => parseIterationLine(line)?.iteration ?? [],
      )
    expect(await iterations()).toEqual([1, 2])
    expect(await iterations()).toEqual([1, 2])
  })

  it('saves when told to stop with --exit-signal-handler', async () => {
    const save = join(work.dir, 'stopped')
    const { argv, ...command } = train(work, { save, trainIters: 1000, saveInterval: 1000 })
    let told = false
    const onLine = (line: string, pid: number) => {
      if (told || parseIterationLine(line) === undefined) return
      told = true
      process.kill(pid, 'SIGTERM')
    }
    const ended = await runCommand(work, { ...command, argv: [...argv, '--exit-signal-handler'] }, { onLine })
    expect(ended.status).toBe(1)
    const seen = ended.out.flatMap(line => parseIterationLine(line)?.iteration ?? []).length
    expect(ended.out.slice(-2)).toEqual([
      `  successfully saved checkpoint at iteration ${String(seen).padStart(7)} to ${save}`,
      expect.stringMatching(/^\[exiting program after receiving SIGTERM\.\] datetime: /),
    ])
  })
})
