import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { commandLine, fixture, folderBytes, runTrainer, weightBytes } from './program-fixture.ts'

const program = fileURLToPath(new URL('../../dist/programs/trainer.js', import.meta.url))

interface Ended {
  readonly code: number | null
  readonly lines: readonly string[]
  readonly errors: string
}

/** Runs the built program to its end; `onLine` sees its log as it comes. */
function start(
  argv: readonly string[],
  onLine: (line: string, child: ChildProcessByStdio<null, Readable, Readable>) => void = () => {},
): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  let errors = ''
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(line)
    onLine(line, child)
  })
  child.stderr.on('data', chunk => {
    errors += chunk
  })
  return new Promise(resolve => child.on('close', code => resolve({ code, lines, errors })))
}

const iterations = (lines: readonly string[]) => lines.flatMap(line => parseIterationLine(line)?.iteration ?? [])

test('forty iterations at once, and forty with the process killed on the way, end with the same files', async () => {
  const f = await fixture()
  const flags = '--train-iters 40 --save-interval 10 --lr-warmup-iters 4'
  const straight = join(f.folder, 'straight')
  await runTrainer(f, `${flags} --save ${straight}`)

  const out = join(f.folder, 'killed')
  // Killed while the third checkpoint is being written or just has been: either is a place to go on from.
  const killed = await start(commandLine(f, `${flags} --save ${out} --threads 2`), (line, child) => {
    if (line.startsWith('saving checkpoint at iteration      30')) child.kill('SIGKILL')
  })
  expect(killed.code).toBe(null)
  const { code, lines, errors } = await start(commandLine(f, `${flags} --save ${out}`))
  expect(errors).toBe('')
  expect(code).toBe(0)
  expect([21, 31]).toContain(iterations(lines)[0])
  expect(iterations(lines).at(-1)).toBe(40)

  const state = 'iter_0000040/embedded_trainer_state.safetensors'
  const [one, other] = [await folderBytes(straight), await folderBytes(out)]
  expect(other[state]).toBe(one[state])
  expect(await weightBytes(out)).toEqual(await weightBytes(straight))
})

test('SIGTERM ends the process after the current iteration, saved, with status 0', async () => {
  const f = await fixture()
  const out = join(f.folder, 'out')
  const flags = `--save ${out} --train-iters 100000 --save-interval 100000`
  const { code, lines, errors } = await start(commandLine(f, flags), (line, child) => {
    if (parseIterationLine(line)?.iteration === 3) child.kill('SIGTERM')
  })
  expect(errors).toBe('')
  expect(code).toBe(0)
  const last = iterations(lines).at(-1) ?? 0
  expect(last).toBeGreaterThanOrEqual(3)
  expect(lines.slice(-3)).toEqual([
    `saving checkpoint at iteration ${String(last).padStart(7)} to ${out} in torch format`,
    `  successfully saved checkpoint at iteration ${String(last).padStart(7)} to ${out}`,
    expect.stringMatching(/^\[exiting program after receiving SIGTERM\.\] datetime: /),
  ])
  expect(existsSync(join(out, 'train-report.json'))).toBe(false)
})

test.each<[string, string, number, RegExp]>([
  [
    'arguments',
    '--trian-iters 5',
    2,
    /^InputError: --trian-iters is not an argument of the embedded trainer\. Is --train-iters meant\?\n$/,
  ],
  [
    'values',
    '--hidden-dropout 0.5',
    2,
    /^UnsupportedError: --hidden-dropout 0\.5: the embedded trainer can do 0 alone\.\n$/,
  ],
  [
    'files',
    '--load /nowhere/at/all',
    1,
    /^FormatError: \/nowhere\/at\/all\/latest_checkpointed_iteration\.txt: expected a checkpoint folder .*\n$/,
  ],
])('wrong %s end the process with one message and a status that tells', async (_, flags, status, message) => {
  const f = await fixture()
  const { code, errors } = await start(commandLine(f, flags))
  expect(errors).toMatch(message)
  expect(code).toBe(status)
})
