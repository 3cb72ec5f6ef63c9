// What the campaigns on real processes share: a folder with the double of the toolchain, a model and a store.
import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  ascendSpeed,
  corpus,
  type Executor,
  type FailureKind,
  hfModel,
  hfToMegatron,
  local,
  preprocess,
  type Ref,
  run,
  train,
} from 'ascendflow'
import { makeToolchainDouble } from 'ascendflow/testing'
import { llama, tinyWeights, writeHfFolder } from '../checkpoint/fixtures/tiny-model.ts'

export const golden = fileURLToPath(new URL('../data/golden/tiny', import.meta.url))
export const toolchainOf = (dir: string) => join(dir, 'toolchain')
export const storeOf = (dir: string) => join(dir, 'store')

/** The double's environment: its `python` and `torchrun` come first. */
export const environment = (dir: string) => ({
  PATH: [join(toolchainOf(dir), 'bin'), process.env.PATH].join(delimiter),
})

/** Runs of the double so far, of one program or of all. */
export function jobsIn(dir: string, program?: string): number {
  const path = join(toolchainOf(dir), '.double/runs.jsonl')
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : []
  return lines.filter(line => program === undefined || JSON.parse(line).program === program).length
}

export async function makePlace(dir: string): Promise<void> {
  await makeToolchainDouble(toolchainOf(dir), { generation: 'modellink-1.1' })
  const architecture = { ...llama, vocabSize: 300, maxPositionEmbeddings: 256 }
  await writeHfFolder(join(dir, 'model'), architecture, tinyWeights(architecture))
  cpSync(join(golden, 'tok'), join(dir, 'model'), { recursive: true })
}

/** A training of its own for each `seed`: 14 iterations, saved every 5; data and weights are shared. */
export function training(dir: string, seed: number) {
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

/** Starts a pipeline, on this machine unless `on` says otherwise, and notes what it tells. */
export function begin<T>(dir: string, target: Ref<T>, on: Executor = here(dir)) {
  const running = run(target, { store: storeOf(dir), on })
  const kinds: FailureKind[] = []
  const warnings: string[] = []
  const lines: string[] = []
  running.on('step.retrying', ({ failure }) => kinds.push(failure?.kind ?? 'unknown'))
  running.on('step.failed', ({ failure }) => kinds.push(failure?.kind ?? 'unknown'))
  running.on('step.warning', ({ about }) => warnings.push(about))
  running.on('step.log', ({ line }) => void (/^(goes on|begins again)/.test(line) && lines.push(line)))
  return { running, kinds, warnings, lines, done: running.then(output => output) }
}

const here = (dir: string) => local({ env: environment(dir), killAfterMs: 2_000, devicesPerNode: 1 })

/** Processes whose command line names the folder, this one left out. */
export function processesIn(dir: string): string[] {
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

/** Numbers from 0 to 1 that follow from a seed. */
export function generator(from: number): () => number {
  let state = from
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
