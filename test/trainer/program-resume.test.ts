import { renameSync, writeFileSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { type Fixture, fixture, folderBytes, runTrainer } from './program-fixture.ts'

const iterations = (lines: readonly string[]) => lines.flatMap(line => parseIterationLine(line)?.iteration ?? [])

/** Runs until the line of `iteration` is printed, then lets the signal stop it. */
async function runUntil(f: Fixture, flags: string, iteration: number, drop: { drop?: string } = {}) {
  const stop = new AbortController()
  const onLine = (line: string) => {
    if (parseIterationLine(line)?.iteration === iteration) stop.abort()
  }
  return runTrainer(f, flags, { signal: stop.signal, onLine, ...drop })
}

/** Files of the last checkpoint of a finished run into `out`, which is removed afterwards. */
async function takeResult(out: string): Promise<Record<string, string>> {
  const bytes = await folderBytes(join(out, 'iter_0000010'))
  await rm(out, { recursive: true })
  return bytes
}

describe('a run that is stopped and started again ends with the very files of one that never stopped', () => {
  test.each<[string, (f: Fixture) => string]>([
    ['pretraining, validated, in bf16', f => `--bf16 --valid-data-path ${f.data} --eval-iters 1 --eval-interval 3`],
    ['instruction data', f => `--data-path ${f.rows} --is-instruction-dataset`],
    [
      'adapters',
      f => `--data-path ${f.rows} --is-instruction-dataset --lora-target-modules dense linear_qkv --lora-r 2`,
    ],
    ['without --finetune', () => '--no-load-optim'],
  ])('%s', async (name, flags) => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    const all = `${flags(f)} --save ${out}`
    const drop = name === 'without --finetune' ? { drop: '--finetune' } : {}
    await runTrainer(f, all, drop)
    const straight = await takeResult(out)

    const first = await runUntil(f, `${all} --threads 3`, 7, drop)
    expect(first.outcome).toBe('stopped')
    expect(first.lines.at(-1)).toMatch(/^\[exiting program after receiving SIGTERM\.\] datetime: /)
    const second = await runTrainer(f, all, drop)
    expect(iterations(second.lines)).toEqual([8, 9, 10])
    expect(await takeResult(out)).toEqual(straight)
    expect(Object.keys(straight)).toHaveLength(6)
  })

  test('any number of threads gives the same bits', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    const results = []
    for (const threads of [1, 2, 5]) {
      await runTrainer(f, `--save ${out} --threads ${threads}`)
      results.push(await takeResult(out))
    }
    expect(results[1]).toEqual(results[0])
    expect(results[2]).toEqual(results[0])
  })
})

test('what a killed process left behind is passed over', async () => {
  const f = await fixture()
  const out = join(f.folder, 'out')
  await runTrainer(f, `--save ${out}`)
  const straight = await folderBytes(join(out, 'iter_0000010'))
  await rm(out, { recursive: true })

  await runUntil(f, `--save ${out}`, 5)
  // A later folder that no tracker names, and one in the making.
  await mkdir(join(out, 'iter_0000010', 'mp_rank_00_000'), { recursive: true })
  await writeFile(join(out, 'iter_0000010', 'mp_rank_00_000', 'model_optim_rng.pt'), 'half')
  await mkdir(join(out, '.saving', 'iter_0000010'), { recursive: true })
  const { lines } = await runTrainer(f, `--save ${out}`)
  expect(iterations(lines)).toEqual([6, 7, 8, 9, 10])
  expect(await folderBytes(join(out, 'iter_0000010'))).toEqual(straight)
  expect((await readdir(out)).includes('.saving')).toBe(false)
})

test('a finished run is not run again', async () => {
  const f = await fixture()
  const flags = `--save ${join(f.folder, 'out')}`
  await runTrainer(f, flags)
  const before = await folderBytes(join(f.folder, 'out'))
  const { outcome, lines } = await runTrainer(f, flags)
  expect(outcome).toBe('finished')
  expect(lines.at(-1)).toBe('training was finished before: 10 of 10 iterations are done')
  expect(await folderBytes(join(f.folder, 'out'))).toEqual(before)
})

test('a run that was killed before its report is evaluated again and reported', async () => {
  const f = await fixture()
  const out = join(f.folder, 'out')
  const flags = `--save ${out} --valid-data-path ${f.data} --eval-iters 1`
  await runTrainer(f, flags)
  const report = JSON.parse(await readFile(join(out, 'train-report.json'), 'utf8'))
  await rm(join(out, 'train-report.json'))
  const { lines } = await runTrainer(f, flags)
  expect(iterations(lines)).toEqual([])
  const { tokensPerSecond, ...others } = report
  expect(tokensPerSecond).toBeGreaterThan(0)
  expect(JSON.parse(await readFile(join(out, 'train-report.json'), 'utf8'))).toEqual(others)
})

test('a signal before the first iteration ends the run with nothing saved', async () => {
  const f = await fixture()
  const out = join(f.folder, 'out')
  for (const flags of ['', `--valid-data-path ${f.data} --eval-iters 3`]) {
    const { outcome, lines } = await runTrainer(f, `--save ${out} ${flags}`, { signal: AbortSignal.abort() })
    expect(outcome).toBe('stopped')
    expect(iterations(lines)).toEqual([])
    expect(lines.at(-1)).toMatch(/SIGTERM/)
  }
  await expect(readdir(out)).rejects.toThrow(/ENOENT/)
})

describe('refused', () => {
  test('other arguments than those that the run was started with', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    await runUntil(f, `--save ${out}`, 5)
    const before = await folderBytes(out)
    await expect(runTrainer(f, `--save ${out} --lr 2e-3 --train-iters 20`)).rejects.toThrow(
      /belongs to another run: --train-iters was 10 and is now 20; --lr was 0\.003 and is now 0\.002; --lr-decay-iters was 10 and is now 20\. Give the arguments of that run/,
    )
    await expect(runTrainer(f, `--save ${out} --data-path ${f.rows}_packed_labels_document`)).rejects.toThrow(
      /the training data was [0-9a-f]{64} and is now [0-9a-f]{64}/,
    )
    expect(await folderBytes(out)).toEqual(before)
    // Threads, folders and the form of the checkpoints may change.
    await runTrainer(f, `--save ${out} --threads 2 --bf16 --save-interval 3 --log-interval 2`)
  })

  test('a LoRA run on another base', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    const flags = `--save ${out} --lora-target-modules dense --lora-r 2`
    await runUntil(f, flags, 5)
    const trained = join(f.folder, 'trained')
    await runTrainer(f, `--save ${trained}`)
    await expect(runTrainer(f, `${flags} --load ${trained}`)).rejects.toThrow(/the frozen weights was/)
  })

  test('a checkpoint in --save that this trainer did not write', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    await cp(f.load, out, { recursive: true })
    await expect(runTrainer(f, `--save ${out}`)).rejects.toThrow(
      /holds a checkpoint of iteration 1 without embedded_trainer_state\.safetensors, so it cannot be continued exactly\. Choose another --save/,
    )
  })

  test('a damaged state', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    await runUntil(f, `--save ${out}`, 5)
    const state = join(out, 'iter_0000005', 'embedded_trainer_state.safetensors')
    await writeFile(state, 'not a state')
    await expect(runTrainer(f, `--save ${out}`)).rejects.toMatchObject({ code: 'bad-format', file: state })
  })

  test('a save that fails leaves the checkpoints before it, and a run that can go on', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    const away = join(f.folder, 'away')
    const onLine = (line: string) => {
      // The folder gives way to a file: whatever is written below it now fails.
      if (parseIterationLine(line)?.iteration !== 9) return
      renameSync(out, away)
      writeFileSync(out, '')
    }
    await expect(runTrainer(f, `--save ${out}`, { onLine })).rejects.toMatchObject({
      code: 'bad-store',
      message: expect.stringMatching(
        /checkpoint of iteration 10 could not be saved in .*out: .*Checkpoints saved before are intact/,
      ),
    })
    await rm(out)
    await rename(away, out)
    const { lines } = await runTrainer(f, `--save ${out}`)
    expect(iterations(lines)).toEqual([6, 7, 8, 9, 10])
  })
})
