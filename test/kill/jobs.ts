// Injects faults into real processes: a training by the double of the toolchain, on this machine.
//
//   faults   every fault that a training can have: classified right, tried again as it should, never a second job at a
//            time, never success without a complete checkpoint
//   kills    the process that runs the pipeline is killed at MOMENTS moments and started again
//   cancels  CANCELS runs are cancelled at random moments: no process is left over
//
// Usage: npm run test:kill:jobs [-- [PART] [MOMENTS [CANCELS [SEED]]]]
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ascendSpeed, corpus, type FailureKind, hfModel, hfToMegatron, local, preprocess, run, train } from 'ascendflow'
import { makeToolchainDouble, type ToolchainFaultKind } from 'ascendflow/testing'
import { llama, tinyWeights, writeHfFolder } from '../checkpoint/fixtures/tiny-model.ts'

const [part = 'all', moments = 20, cancels = 200, seed = Date.now() % 100_000] = readWords(process.argv.slice(2))
const golden = fileURLToPath(new URL('../data/golden/tiny', import.meta.url))

/** A folder with the double of the toolchain, a model and a store. */
const toolchainOf = (dir: string) => join(dir, 'toolchain')
const storeOf = (dir: string) => join(dir, 'store')

/** Trainings of the double so far. */
const jobsIn = (dir: string) =>
  readFileSync(join(toolchainOf(dir), '.double/runs.jsonl'), 'utf8')
    .split('\n')
    .filter(Boolean).length

/** The kind that each fault must be told as, and whether the next try goes on; undefined: the training ends well. */
const expected: Readonly<Partial<Record<ToolchainFaultKind, readonly [FailureKind, again: boolean] | undefined>>> = {
  'argparse-error': ['config', false],
  'import-error': ['config', false],
  auth: ['auth', false],
  'host-oom': ['host-oom', true],
  'disk-full': ['disk-full', false],
  'hang-at-start': ['hang', true],
  'hang-in-training': ['hang', true],
  'hang-in-save': ['hang', true],
  'early-exit': ['unknown', true],
  'device-busy': ['capacity', true],
  'hccl-connect-timeout': ['hccl-timeout', true],
  'hccl-exec-timeout': ['hccl-timeout', true],
  'unreadable-checkpoint': ['data', false],
  'invalid-tracker': ['data', false],
  // Loaded only when a training goes on, so that another failure comes first.
  'no-optimizer-state': ['config', false],
  'bad-data-index': ['data', false],
  'device-oom': ['device-oom', false],
  'device-fault': ['device-fault', true],
  // The launcher of the only node is killed: on one machine nothing tells that from a want of memory.
  'lost-node': ['host-oom', true],
  'nan-loss': ['diverged', false],
  'nan-iterations': ['diverged', false],
  'skipped-iterations': undefined,
  'loss-spike': undefined,
}

if (part === 'child') await begin(String(process.env.ASCENDFLOW_PLACE), 1_000).done
else await main()

async function main(): Promise<void> {
  console.log(`seed ${seed}`)
  const dir = mkdtempSync(join(tmpdir(), 'ascendflow-jobs-'))
  let failures = 0
  try {
    await makePlace(dir)
    for (const [name, check] of Object.entries({ faults, kills, cancellations })) {
      if (part !== 'all' && part !== name) continue
      const started = Date.now()
      const wrong = await check(dir)
      failures += wrong
      console.log(`${name}: ${wrong} wrong, ${Math.round((Date.now() - started) / 1000)} s`)
    }
    const left = processesIn(dir)
    console.log(`${left.length} processes left over`)
    process.exitCode = failures + left.length > 0 ? 1 : 0
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function makePlace(dir: string): Promise<void> {
  await makeToolchainDouble(join(dir, 'toolchain'), { generation: 'modellink-1.1' })
  const architecture = { ...llama, vocabSize: 300, maxPositionEmbeddings: 256 }
  await writeHfFolder(join(dir, 'model'), architecture, tinyWeights(architecture))
  cpSync(join(golden, 'tok'), join(dir, 'model'), { recursive: true })
}

/** A training of its own for each `seed`; data and weights are shared. */
function training(dir: string, seed: number) {
  const model = hfModel(join(dir, 'model'))
  const parallel = { tp: 1, pp: 1 }
  return train(
    {
      ...{ data: preprocess({ corpus: corpus(join(golden, 'data.jsonl')), tokenizer: model, workers: 1 }) },
      ...{ init: hfToMegatron({ model, parallel, layout: 'legacy' }), parallel, devicesPerNode: 1 },
      ...{ seqLength: 16, globalBatchSize: 2, trainIters: 14, saveInterval: 5, lr: 1e-3, seed },
      ...{ toolchain: ascendSpeed({ dir: toolchainOf(dir) }), tokenizer: model },
      watch: { hangSeconds: 20, startSeconds: 60, pauseSeconds: 20, spikeFactor: 1.5, skippedInARow: 1 },
    },
    { name: `train-${seed}`, retryDelayMs: 1 },
  )
}

function begin(dir: string, number: number) {
  const path = [join(toolchainOf(dir), 'bin'), process.env.PATH].join(delimiter)
  const running = run(training(dir, number), {
    store: storeOf(dir),
    on: local({ env: { PATH: path }, killAfterMs: 2_000, devicesPerNode: 1 }),
  })
  const kinds: FailureKind[] = []
  const warnings: string[] = []
  running.on('step.retrying', ({ failure }) => kinds.push(failure?.kind ?? 'unknown'))
  running.on('step.failed', ({ failure }) => kinds.push(failure?.kind ?? 'unknown'))
  running.on('step.warning', ({ about }) => warnings.push(about))
  return { running, kinds, warnings, done: running.then(output => output) }
}

async function faults(dir: string): Promise<number> {
  const double = await makeToolchainDouble(toolchainOf(dir), { generation: 'modellink-1.1' })
  let wrong = 0
  let number = 0
  for (const [kind, end] of Object.entries(expected) as [ToolchainFaultKind, (typeof expected)['auth']][]) {
    number++
    if (kind === 'no-optimizer-state') await double.inject({ kind: 'host-oom', at: 12 })
    await double.inject({ kind, at: 12 })
    const before = jobsIn(dir)
    const { kinds, warnings, done } = begin(dir, number)
    const output = await done.catch((error: Error) => error)
    const runs = jobsIn(dir) - before
    const isWell = !(output instanceof Error)
    const proof = isWell && existsSync(join(output.path, 'iter_0000014')) ? 'complete' : 'no checkpoint'
    const asExpected =
      end === undefined
        ? isWell && runs === 1 && warnings.length > 0
        : kinds.at(-1) === end[0] && isWell === end[1] && runs === kinds.length + (end[1] ? 1 : 0)
    const isProved = !isWell || proof === 'complete'
    if (!asExpected || !isProved) wrong++
    console.log(
      `${asExpected && isProved ? 'ok   ' : 'WRONG'} ${kind}: ${kinds.join(', ') || warnings.join(', ')}; ${runs} jobs; ${isWell ? proof : 'failed'}`,
    )
    if (!asExpected && !isWell) console.log(String(output.message))
  }
  return wrong
}

/** The driver is killed with its group; the job, a group of its own, goes on, and is followed by the next driver. */
async function kills(dir: string): Promise<number> {
  const random = generator(Number(seed))
  let wrong = 0
  let undisturbedMs = 0
  for (let moment = 0; moment <= Number(moments); moment++) {
    const own = join(dir, `kill-${moment}`)
    cpSync(join(dir, 'model'), join(own, 'model'), { recursive: true })
    await makeToolchainDouble(toolchainOf(own), { generation: 'modellink-1.1' })
    const killed: number[] = []
    const started = Date.now()
    // The first is let be, to know how long there is.
    for (let time = 0; moment > 0 && time < 2; time++) {
      const child = drive(own)
      const after = random() * undisturbedMs
      await Promise.race([ended(child), sleep(after)])
      if (child.exitCode !== null) break
      process.kill(-child.pid!, 'SIGKILL')
      await ended(child)
      killed.push(Math.round(after))
    }
    const last = await ended(drive(own))
    if (moment === 0) undisturbedMs = Date.now() - started
    const jobs = jobsIn(own)
    const isProved = readdirSync(join(storeOf(own), 'steps')).some(
      name => name.startsWith('train-') && existsSync(join(storeOf(own), 'steps', name, 'record.json')),
    )
    const isRight = last === 0 && jobs === 1 && isProved
    if (!isRight) wrong++
    console.log(`${isRight ? 'ok   ' : 'WRONG'} killed after [${killed.join(', ')}] ms: exit ${last}, ${jobs} jobs`)
    rmSync(own, { recursive: true, force: true })
  }
  return wrong
}

async function cancellations(dir: string): Promise<number> {
  const random = generator(Number(seed) + 1)
  let wrong = 0
  let left = 0
  // What all trainings need is made first, so that a cancel meets a job more often than not.
  await begin(dir, 5_000).done
  for (let n = 0; n < Number(cancels); n++) {
    const { running, done } = begin(dir, 10_000 + n)
    const end = done.then(
      () => 'done',
      (error: { code?: string }) => error.code ?? String(error),
    )
    await Promise.race([end, sleep(random() * 2_500)])
    await running.cancel()
    const found = processesIn(dir)
    left += found.length
    const state = await end
    if (found.length > 0 || !['done', 'cancelled'].includes(state)) {
      wrong++
      console.log(`WRONG cancel ${n}: ${state}; left: ${found.join('; ')}`)
    }
  }
  console.log(`${cancels} cancels, ${left} orphans`)
  return wrong
}

function drive(place: string): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', fileURLToPath(import.meta.url), 'child'], {
    detached: true,
    env: { ...process.env, ASCENDFLOW_PLACE: place },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await new Promise(resolve => child.on('close', resolve))
  return child.exitCode
}

/** Processes whose command line names the folder, this one left out. */
function processesIn(dir: string): string[] {
  return readdirSync('/proc').flatMap(entry => {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) return []
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0').join(' ')
      return words.includes(dir) ? [`${entry} ${words.slice(0, 200)}`] : []
    } catch {
      return []
    }
  })
}

function generator(from: number): () => number {
  let state = from
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function readWords(words: readonly string[]): readonly (string | number)[] {
  const [first, ...rest] = words
  return first !== undefined && /^\d+$/.test(first) ? ['all', ...words] : [first ?? 'all', ...rest]
}
