import { spawn } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { makeToolchainDouble, type ToolchainDouble, type ToolchainFault } from 'ascendflow/testing'
import { hfToMegatronCommand, megatronToHfCommand } from '../../src/ascendspeed/conversion-arguments.ts'
import type { Generation } from '../../src/ascendspeed/generations.ts'
import { preprocessCommand } from '../../src/ascendspeed/preprocess-arguments.ts'
import type { ToolchainCommand } from '../../src/ascendspeed/toolchain.ts'
import { type ToolchainTraining, trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { resolveWords } from '../../src/flow/launch.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { llama, tinyWeights, writeHfFolder } from '../checkpoint/fixtures/tiny-model.ts'

const golden = resolve('test/data/golden/tiny')

/** Rows and tokenizer of the golden files, and what ModelLink itself makes of them. */
export const corpus = join(golden, 'data.jsonl')

export const architecture: Architecture = { ...llama, vocabSize: 300, maxPositionEmbeddings: 256 }

export const parallel = { tp: 2, pp: 2 } as const

export interface Work {
  readonly dir: string
  readonly double: ToolchainDouble
  /** Folder of the Hugging Face model, with its tokenizer. */
  readonly model: string
}

/** A double with a small model; goes with `forget`. */
export async function makeWork(
  generation: Generation,
  faults: readonly ToolchainFault[] = [],
): Promise<Work & { forget(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-double-'))
  const double = await makeToolchainDouble(join(dir, 'toolchain'), { generation, faults })
  const model = join(dir, 'model')
  await writeHfFolder(model, architecture, tinyWeights(architecture))
  await cp(join(golden, 'tok'), model, { recursive: true })
  return { dir, double, model, forget: () => rm(dir, { recursive: true, force: true }) }
}

/** The same, with data and weights to train on, made without the double. */
export async function prepareTraining(generation: Generation): Promise<Awaited<ReturnType<typeof makeWork>>> {
  const work = await makeWork(generation)
  for (const end of ['bin', 'idx'])
    await cp(join(golden, `pre_text_document.${end}`), join(work.dir, `pre_text_document.${end}`))
  const source = await openHfModel(work.model)
  const init = { source, architecture, parallel, layout: 'legacy', iteration: 1, dtype: 'BF16' } as const
  await writeMegatronCheckpoint(join(work.dir, 'init'), init)
  await source.close()
  return work
}

export interface Ended {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: readonly string[]
  readonly err: readonly string[]
}

/** Runs a command as an executor would, on one node. */
export async function runCommand(
  { double }: Pick<Work, 'double'>,
  command: ToolchainCommand,
  {
    env = {},
    rank = 0,
    port = 29_500,
    onLine = () => {},
  }: {
    env?: Record<string, string>
    rank?: number
    port?: number
    onLine?: (line: string, pid: number) => unknown
  } = {},
): Promise<Ended> {
  const place = { rank, count: command.nodes, masterAddr: '127.0.0.1', masterPort: port }
  const [program = '', ...args] = resolveWords(command.argv, place, path => path)
  const child = spawn(program, args, {
    cwd: command.dir,
    env: { ...process.env, ...command.env, ...env, ...double.env(process.env.PATH) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const read = (stream: NodeJS.ReadableStream) => {
    let text = ''
    stream.on('data', chunk => {
      const lines = (text + chunk).split('\n')
      text += chunk
      for (const line of lines.slice(0, -1)) onLine(line, child.pid!)
    })
    return () => text.split('\n').slice(0, -1)
  }
  const [out, err] = [read(child.stdout), read(child.stderr)]
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(done =>
    child.on('close', (code, by) => done([code, by])),
  )
  return { status, signal, out: out(), err: err() }
}

/** The golden files' own preprocessing. */
export function preprocess({ dir, double, model }: Work, handler?: string): ToolchainCommand {
  const outputPrefix = join(dir, handler === undefined ? 'pre' : 'sft')
  const options = { input: corpus, tokenizer: model, outputPrefix, handler, seqLength: 250, appendEod: true }
  return preprocessCommand(double.toolchain, { ...options, workers: 1 })
}

export function hfToMegatron({ dir, double, model }: Work, layout: 'legacy' | 'mcore' = 'legacy'): ToolchainCommand {
  return hfToMegatronCommand(double.toolchain, { architecture, model, parallel, layout, save: join(dir, 'init') })
}

/** Trains four devices' worth of a job for 4 iterations, saving at the second and the last. */
export function train({ dir, double, model }: Work, more: Partial<ToolchainTraining> = {}): ToolchainCommand {
  return trainCommand(double.toolchain, {
    ...{ architecture, layout: 'legacy', parallel, nodes: 1, devicesPerNode: 4 },
    data: { path: join(dir, 'pre_text_document'), instruction: false },
    ...{ tokenizer: model, load: join(dir, 'init'), save: join(dir, 'trained'), seqLength: 16 },
    ...{ microBatchSize: 1, globalBatchSize: 2, trainIters: 4, lr: 1e-3, minLr: 1e-4, lrDecayStyle: 'cosine' },
    ...{ weightDecay: 0.1, clipGrad: 1, adamBeta1: 0.9, adamBeta2: 0.95, seed: 1234, dtype: 'bf16' },
    ...{ saveInterval: 2, logInterval: 1, ...more },
  })
}

/** Exports into a copy of the model; gives where that is found too. */
export async function megatronToHf(
  { dir, double, model }: Work,
  layout: 'legacy' | 'mcore' = 'legacy',
): Promise<ToolchainCommand & { readonly output: string }> {
  const save = join(dir, 'export')
  await cp(model, save, { recursive: true })
  return megatronToHfCommand(double.toolchain, { architecture, load: join(dir, 'trained'), parallel, layout, save })
}
