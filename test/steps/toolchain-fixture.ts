import { cp } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import {
  corpus,
  type Executor,
  hfModel,
  hfToMegatron,
  local,
  megatronToHf,
  preprocess,
  type Ref,
  run,
  type Toolchain,
  train,
} from 'ascendflow'
import { makeToolchainDouble, type ToolchainDouble } from 'ascendflow/testing'
import type { Generation } from '../../src/ascendspeed/generations.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { llama, tinyWeights, writeHfFolder } from '../checkpoint/fixtures/tiny-model.ts'
import { newFolder } from '../engine/steps.ts'

const golden = resolve('test/data/golden/tiny')
const architecture: Architecture = { ...llama, vocabSize: 300, maxPositionEmbeddings: 256 }

/** Four rows of instructions. */
export const rows = join(golden, 'data.jsonl')

/** A small model, rows, a double of the toolchain, and the four steps carried out by it. */
export interface Fixture {
  readonly dir: string
  readonly store: string
  readonly double: ToolchainDouble
  readonly toolchain: Toolchain
  /** This machine, as if it had NPUs. */
  readonly npus: Executor
  readonly base: ReturnType<typeof hfModel>
  readonly steps: ReturnType<typeof pipeline>
}

export async function makeFixture(generation: Generation, options: Options = {}): Promise<Fixture> {
  const dir = await newFolder()
  await writeHfFolder(join(dir, 'model'), architecture, tinyWeights(architecture))
  await cp(join(golden, 'tok'), join(dir, 'model'), { recursive: true })
  const base = hfModel(join(dir, 'model'))
  const double = await makeToolchainDouble(join(dir, 'toolchain'), { generation })
  const { toolchain } = double
  return {
    ...{ dir, store: join(dir, 'store'), double, toolchain, base },
    npus: local({ env: double.env(process.env.PATH), devicesPerNode: 8 }),
    steps: pipeline({ base, toolchain }, options),
  }
}

interface Options {
  readonly parallel?: { readonly tp: number; readonly pp: number }
  readonly layout?: 'legacy' | 'mcore'
  /** Further input of `train`. */
  readonly training?: Readonly<Record<string, unknown>>
  /** Data and weights made by the native steps. */
  readonly native?: boolean
}

export function pipeline(
  { base, toolchain }: Pick<Fixture, 'base' | 'toolchain'>,
  { parallel = { tp: 2, pp: 1 }, layout = 'legacy', training = {}, native = false }: Options,
) {
  const instructions = { handler: 'GeneralInstructionHandler', appendEod: true, seqLength: 256 } as const
  const by = native ? {} : { toolchain }
  const data = preprocess({ corpus: corpus(rows), tokenizer: base, ...instructions, ...by })
  const init = hfToMegatron({ model: base, parallel, layout, ...by })
  const numbers = { seqLength: 256, microBatchSize: 1, globalBatchSize: 2, lr: 1e-3, trainIters: 6, saveInterval: 2 }
  const input = { data, init, tokenizer: base, ...numbers, ...training, toolchain } as Parameters<typeof train>[0]
  const trained = train(input, { retryDelayMs: 1 })
  const hf = megatronToHf({ checkpoint: trained, like: base, toolchain })
  return { data, init, trained, hf }
}

/** Runs it and gives the errors of retries, and the lines that say where a training goes on. */
export async function told(target: Ref<unknown>, { store, npus }: Fixture) {
  const retries: string[] = []
  const lines: string[] = []
  const job = run(target, { store, on: npus })
  job.on('step.retrying', ({ error }) => void retries.push(error.message))
  job.on('step.log', ({ line }) => void (/^(goes on|begins again)/.test(line) && lines.push(line)))
  const output = await job
  return { output, retries, lines }
}

/** The message of the error that a run ends with. */
export async function failure(target: Ref<unknown>, { store, npus }: Fixture): Promise<string> {
  const error: unknown = await run(target, { store, on: npus }).catch(caught => caught)
  return error instanceof Error ? error.message : 'it succeeded'
}
