import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { openHfModel } from 'ascendflow/formats'
import { stageWeights } from '../../src/checkpoint/stage-weights.ts'
import { stageLayers } from '../../src/layout/stages.ts'
import { type LlamaShape, llamaShapes, makeLlama, weightBytes } from './convert-model.ts'
import { settle } from './settle.ts'
import { liftWriteBack } from './write-back.ts'

const call = promisify(execFile)
const [tp, pp] = [4, 2]
/** Largest shard of the model. */
const maxShardBytes = 1e9

/** What convert-process.mjs does. */
interface ConvertJob {
  readonly direction: 'hfToMegatron' | 'megatronToHf'
  readonly from: string
  readonly to: string
  readonly like: string
  readonly tp: number
  readonly pp: number
  readonly maxShardBytes: number
  /** Whether all is flushed to the disk, as the product does. */
  readonly flush: boolean
  readonly workers: number | undefined
}

interface Measurement {
  readonly seconds: number
  readonly cpuSeconds?: number
  readonly peakBytes?: number
}

/**
 * A synthetic Llama-shaped bf16 model, cut for TP 4 × PP 2 and put together again, beside `cp` of the same bytes and,
 * where a Python with torch is found, a converter that holds the model in memory. Taken in turns; medians of the rounds.
 *
 *   npm run bench -- convert [--gb 4] [--rounds 5] [--folder DIR] [--single-tensor] [--beside cp,torch,sync] [--workers N]
 *     [--lift-write-back]
 *
 * With `--lift-write-back` (root, Linux) the kernel does not begin to write back during what is not flushed.
 */
export async function bench(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      ...{ gb: { type: 'string', default: '4' }, rounds: { type: 'string', default: '5' } },
      ...{ folder: { type: 'string', default: tmpdir() }, 'single-tensor': { type: 'boolean', default: false } },
      ...{ beside: { type: 'string', default: 'cp,torch,sync' }, workers: { type: 'string' } },
      ...{ 'lift-write-back': { type: 'boolean', default: false } },
    },
  })
  const dir = await mkdtemp(join(values.folder, 'ascendflow-bench-'))
  try {
    const hf = join(dir, 'hf')
    const shape = shapeOf({ bytes: Number(values.gb) * 1e9, oneLarge: values['single-tensor'] })
    const bytes = weightBytes(shape)
    await makeLlama(hf, shape, { content: 'random', maxShardBytes })
    const beside = values.beside.split(',')
    const python = beside.includes('torch') ? await findPython() : undefined
    console.log(
      `convert, ${(bytes / 1e9).toFixed(2)} GB, TP ${tp} × PP ${pp}, ${cpus().length} × ${cpus()[0]!.model}${python || !beside.includes('torch') ? '' : '; no Python with torch found'}${values['lift-write-back'] ? '; nothing written back during what is not flushed' : ''}`,
    )
    const workers = values.workers === undefined ? undefined : Number(values.workers)
    const contenders = contendersIn(dir, { hf, python, workers }).filter(
      ({ name }) => beside.includes('sync') || !isFlushed(name),
    )
    const results = new Map<string, Measurement[]>(contenders.map(({ name }) => [name, []]))
    for (let round = 0; round < Number(values.rounds); round++)
      for (const { name, work, from, spent } of contenders) {
        await settle(await filesBelow(from))
        const restore = values['lift-write-back'] && !isFlushed(name) ? liftWriteBack() : undefined
        const measured = await work().finally(() => restore?.())
        results.get(name)!.push(measured)
        console.log(`  round ${round + 1}: ${name} ${measured.seconds.toFixed(2)} s`)
        if (round === 0 && name === 'megatronToHf')
          for (const file of (await readdir(hf)).filter(file => file.endsWith('.safetensors')))
            await call('cmp', [join(hf, file), join(dir, 'ours-hf', file)])
        for (const folder of spent) await rm(folder, { recursive: true })
      }
    console.log('the model is the same, byte for byte, after both conversions')
    print(results, bytes)
    await printPlans(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

const isFlushed = (name: string): boolean => /sync|flushed/.test(name)

/**
 * 7B's width with as many layers as the bytes hold, and an embedding for the rest, which has 3 GB and more when one
 * tensor is to be large.
 */
function shapeOf({ bytes, oneLarge }: { bytes: number; oneLarge: boolean }): LlamaShape {
  const base = { ...llamaShapes['7B']!, ...(oneLarge ? { vocab: 366_080 } : {}) }
  const [none, two] = [0, pp].map(layers => weightBytes({ ...base, layers })) as [number, number]
  const shape = { ...base, layers: pp * Math.max(1, Math.floor((bytes - none) / (two - none))) }
  const row = weightBytes({ ...shape, vocab: shape.vocab + 1 }) - weightBytes(shape)
  const rows = Math.max(0, Math.ceil((bytes - weightBytes(shape)) / row / 128) * 128)
  return { ...shape, vocab: shape.vocab + rows }
}

interface Contender {
  readonly name: string
  /** What it reads. */
  readonly from: string
  /** What nobody needs after it. */
  readonly spent: readonly string[]
  work(): Promise<Measurement>
}

function contendersIn(
  dir: string,
  { hf, python, workers }: { hf: string; python: string | undefined; workers: number | undefined },
): Contender[] {
  const at = (name: string) => join(dir, name)
  const cpOf = (name: string, sync: boolean): Contender => ({
    ...{ name, from: hf, spent: [at('copy')] },
    work: () =>
      timed(async () => {
        await call('cp', ['-r', hf, at('copy')])
        if (sync) await call('sync')
      }),
  })
  const ours = (direction: ConvertJob['direction'], flush: boolean): Contender => {
    const [from, to] = direction === 'hfToMegatron' ? [hf, at('ours-mg')] : [at('ours-mg'), at('ours-hf')]
    const job: ConvertJob = { direction, from, to, like: hf, tp, pp, maxShardBytes, flush, workers }
    const args = [here('convert-process.mjs'), JSON.stringify(job)]
    return {
      ...{ name: `${direction}${flush ? ', flushed' : ''}`, from, spent: from === hf ? [] : [from, to] },
      work: () => measured(process.execPath, args),
    }
  }
  const theirs = (direction: ConvertJob['direction']): Contender[] => {
    if (!python) return []
    const [from, to] = direction === 'hfToMegatron' ? [hf, at('torch-mg')] : [at('torch-mg'), at('torch-hf')]
    return [
      {
        ...{ name: `torch ${direction}`, from, spent: from === hf ? [] : [from, to] },
        work: async () => {
          const result = await measured(python, [here('convert.py'), direction, from, to, String(tp), String(pp)])
          if (direction === 'hfToMegatron') await cp(join(hf, 'config.json'), join(to, 'config.json'))
          return result
        },
      },
    ]
  }
  return [
    cpOf('cp', false),
    ...[ours('hfToMegatron', false), ours('megatronToHf', false)],
    ...[...theirs('hfToMegatron'), ...theirs('megatronToHf')],
    cpOf('cp, sync', true),
    ...[ours('hfToMegatron', true), ours('megatronToHf', true)],
  ]
}

function print(results: ReadonlyMap<string, readonly Measurement[]>, bytes: number): void {
  const rounds = results.get('cp')!.length
  const ratio = (name: string, to: string) =>
    median(Array.from({ length: rounds }, (_, i) => results.get(to)![i]!.seconds / results.get(name)![i]!.seconds))
  for (const [name, all] of results) {
    const seconds = median(all.map(each => each.seconds))
    const peak = Math.max(...all.map(each => each.peakBytes ?? 0))
    const cpu = median(all.map(each => each.cpuSeconds ?? 0))
    const yardsticks = /^cp|^torch/.test(name)
      ? []
      : [name.endsWith('flushed') ? 'cp, sync' : 'cp', ...(results.has(`torch ${name}`) ? [`torch ${name}`] : [])]
    console.log(
      `  ${name.padEnd(24)}${seconds.toFixed(2).padStart(7)} s ${(bytes / 1e6 / seconds).toFixed(0).padStart(6)} MB/s` +
        `${peak > 0 ? `${cpu.toFixed(2).padStart(7)} CPU s ${(peak / 2 ** 20).toFixed(0).padStart(6)} MiB` : ''}` +
        yardsticks.map(to => `  ${ratio(name, to).toFixed(2)}× ${to}`).join(''),
    )
  }
  console.log(
    '  targets: 0.9× cp, 4× torch, flushed 0.75× cp and sync, at most 200 MB; ratios are medians of the rounds',
  )
}

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}

/** How long it takes to open a model and to lay out its shards, from headers alone. */
async function printPlans(dir: string): Promise<void> {
  for (const [name, shape] of Object.entries(llamaShapes)) {
    const folder = join(dir, `shape-${name}`)
    await makeLlama(folder, shape, { content: 'hole', maxShardBytes: Number.POSITIVE_INFINITY })
    const begin = performance.now()
    const source = await openHfModel(folder)
    const { architecture } = source
    const stages = stageLayers({ numLayers: architecture.numLayers, pp })
    const weights = stageWeights({ architecture, tp, paddedVocabSize: shape.vocab, layout: 'legacy', stages })
    const milliseconds = performance.now() - begin
    await source.close()
    console.log(
      `  plan of ${name}: ${weights.length * tp} tensors in ${tp * pp} shards, ${(weightBytes(shape) / 1e9).toFixed(0)} GB, from headers in ${milliseconds.toFixed(0)} ms`,
    )
  }
}

function measured(program: string, args: readonly string[]): Promise<Measurement> {
  return call(program, args).then(({ stdout }) => JSON.parse(stdout))
}

async function timed(work: () => Promise<void>): Promise<Measurement> {
  const begin = performance.now()
  await work()
  return { seconds: (performance.now() - begin) / 1000 }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}

async function findPython(): Promise<string | undefined> {
  const candidates = [process.env.ASCENDFLOW_PYTHON, here('../../.venv/bin/python')]
  const found = candidates.find(path => path !== undefined && path !== '' && existsSync(path)) ?? 'python3'
  return call(found, ['-c', 'import torch, safetensors']).then(
    () => found,
    () => undefined,
  )
}

function here(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url))
}
