import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
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
import { makeModel } from '../../examples/quickstart/make-model.ts'
import type { Generation } from '../../src/ascendspeed/generations.ts'
import { newFolder } from '../engine/steps.ts'

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
  await cp(await madeModel(), join(dir, 'model'), { recursive: true })
  const rows = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), rows.join('\n'))
  const base = hfModel(join(dir, 'model'))
  const double = await makeToolchainDouble(join(dir, 'toolchain'), { generation })
  const { toolchain } = double
  return {
    ...{ dir, store: join(dir, 'store'), double, toolchain, base },
    npus: local({ env: double.env(process.env.PATH), devicesPerNode: 8 }),
    steps: pipeline({ dir, base, toolchain }, options),
  }
}

let model: Promise<string> | undefined

/** The same small model for all tests of a file. */
function madeModel(): Promise<string> {
  model ??= newFolder().then(async dir => {
    await makeModel(dir)
    return dir
  })
  return model
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
  { dir, base, toolchain }: Pick<Fixture, 'dir' | 'base' | 'toolchain'>,
  { parallel = { tp: 2, pp: 1 }, layout = 'legacy', training = {}, native = false }: Options,
) {
  const instructions = { handler: 'GeneralInstructionHandler', appendEod: true } as const
  const by = native ? {} : { toolchain }
  const data = preprocess({ corpus: corpus(join(dir, 'rows.jsonl')), tokenizer: base, ...instructions, ...by })
  const init = hfToMegatron({ model: base, parallel, layout, ...by })
  const numbers = { seqLength: 128, microBatchSize: 1, globalBatchSize: 2, lr: 1e-3, trainIters: 6, saveInterval: 2 }
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
