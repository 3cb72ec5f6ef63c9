import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openHfModel, openMegatronCheckpoint } from 'ascendflow/formats'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Generation, generations } from '../../src/ascendspeed/generations.ts'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { readAll, sorted } from '../checkpoint/fixtures/tiny-model.ts'
import {
  architecture,
  corpus,
  hfToMegatron,
  makeWork,
  megatronToHf,
  parallel,
  preprocess,
  runCommand,
  train,
  type Work,
} from './double-fixture.ts'

const golden = join(corpus, '..')

async function weightsOf(source: Awaited<ReturnType<typeof openHfModel | typeof openMegatronCheckpoint>>) {
  try {
    return sorted(await readAll(source))
  } finally {
    await source.close()
  }
}

/** What the native steps make of the same: tokens to the byte, weights to the tensor. */
async function nativeShards({ dir, model }: Work, layout: 'legacy' | 'mcore') {
  const source = await openHfModel(model)
  const out = join(dir, 'native')
  await writeMegatronCheckpoint(out, { source, architecture, parallel, layout, iteration: 1, dtype: 'BF16' })
  await source.close()
  return out
}

const shards = async (dir: string) =>
  (await readdir(dir, { recursive: true })).filter(name => name.endsWith('.pt')).sort()

describe.each(generations)('the double of %s', generation => {
  it('takes a corpus and a model through a whole job', { timeout: 120_000 }, async () => {
    const work = await makeWork(generation)
    onTestFinished(() => work.forget())
    const layout = generation === 'mindspeed-llm' ? 'mcore' : 'legacy'

    const data = await runCommand(work, preprocess(work))
    expect(data).toMatchObject({ status: 0 })
    for (const name of ['pre_text_document.bin', 'pre_text_document.idx'])
      expect(await readFile(join(work.dir, name)), name).toEqual(await readFile(join(golden, name)))

    const init = await runCommand(work, hfToMegatron(work, layout))
    expect(init).toMatchObject({ status: 0 })
    expect(init[generation === 'modellink-1.0' || generation === 'modellink-1.1' ? 'out' : 'err'].at(-1)).toBeDefined()
    const native = await nativeShards(work, layout)
    expect(await shards(join(work.dir, 'init'))).toEqual(await shards(native))
    for (const name of await shards(native))
      expect(await readFile(join(work.dir, 'init', name)), name).toEqual(await readFile(join(native, name)))
    expect(await readFile(join(work.dir, 'init', 'latest_checkpointed_iteration.txt'), 'utf8')).toBe('1')

    const trained = await runCommand(work, train(work, { layout }))
    expect(trained).toMatchObject({ status: 0, err: [] })
    expect(trained.out.flatMap(line => parseIterationLine(line)?.iteration ?? [])).toEqual([1, 2, 3, 4])
    expect(trained.out).toEqual(expect.arrayContaining(dialects[generation].map(line => expect.stringMatching(line))))
    expect((await readdir(join(work.dir, 'trained'))).sort()).toEqual([
      ...['iter_0000002', 'iter_0000004', 'latest_checkpointed_iteration.txt'],
    ])
    const shardsHeld = await openMegatronCheckpoint(join(work.dir, 'trained'))
    expect(shardsHeld).toMatchObject({ iteration: 4, tp: 2, pp: 2, layout, consumedTrainSamples: 8 })
    const after = await weightsOf(shardsHeld)

    const command = await megatronToHf(work, layout)
    expect(await runCommand(work, command)).toMatchObject({ status: 0 })
    expect((await readdir(command.output)).sort()).toEqual(['config.json', 'model.safetensors'])
    expect(await weightsOf(await openHfModel(command.output))).toEqual(after)
    expect(after).not.toEqual(await weightsOf(await openHfModel(work.model)))
    expect((await work.double.runs()).map(run => run.program)).toEqual(['preprocess', 'convert', 'train', 'convert'])
  })
})

/** From the sources of Megatron-LM bcce6f54, cac60ce4 and core_v0.8.0. */
const iteration = String.raw`iteration        1/       4 \| consumed samples:            2 \| elapsed time per iteration \(ms\): \d+\.\d \| throughput per GPU \(TFLOP/s/GPU\): \d+\.\d \| learning rate: `
const stamp = String.raw` \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] `
const rest = String.raw` \| global batch size:     2 \| lm loss: \d\.\d{6}E[+-]\d\d \| loss scale: 1\.0 \| grad norm: \d+\.\d{3} \| number of skipped iterations:   0 \| number of nan iterations:   0 \|$`
const later = new RegExp(`^${stamp}${iteration}\\d\\.\\d{6}E-04${rest}`)
const dialects: Readonly<Record<Generation, readonly RegExp[]>> = {
  'modellink-1.0': [
    new RegExp(`^ ${iteration}\\d\\.\\d{3}E-04${rest}`),
    /^saving checkpoint at iteration {7}2 to \S+$/,
    /^ {2}successfully saved checkpoint at iteration {7}2 to \S+$/,
  ],
  'modellink-1.1': [
    later,
    /^using world size: 4, data-parallel size: 1, context-parallel size: 1 tensor-model-parallel size: 2, pipeline-model-parallel size: 2 $/,
    /^ {2}tensor_model_parallel_size \.{22} 2$/,
    /^saving checkpoint at iteration {7}4 to \S+ in torch format$/,
    /^ {2}successfully saved checkpoint at iteration {7}4 to \S+$/,
    /^ {2}successfully loaded checkpoint from \S+\/init \[ t 0, p 0 \] at iteration 0$/,
  ],
  'modellink-rc3': [later, /^-+ ModelLink Arguments -+$/],
  'mindspeed-llm': [later, /^ {2}successfully saved checkpoint from iteration {7}4 to \S+$/],
}

describe('a training of the double', () => {
  it('tunes adapters on instructions with posttrain_gpt.py, and goes on from them', async () => {
    const work = await makeWork('mindspeed-llm')
    onTestFinished(() => work.forget())
    await runCommand(work, preprocess(work, 'GeneralInstructionHandler'))
    for (const key of ['input_ids', 'labels', 'attention_mask'].map(name => `sft_packed_${name}_document.bin`))
      expect(await readFile(join(work.dir, key)), key).toEqual(await readFile(join(golden, key)))
    await runCommand(work, hfToMegatron(work, 'mcore'))
    const lora = { r: 2, alpha: 4, targets: ['linear_qkv', 'linear_proj'] as const }
    const data = { path: join(work.dir, 'sft'), instruction: true }
    const command = train(work, { layout: 'mcore', data, lora, seqLength: 256 })
    expect(command.argv).toContainEqual({ read: join(work.double.toolchain.dir, 'posttrain_gpt.py') })
    await work.double.inject({ kind: 'device-oom', at: 3 })
    expect(await runCommand(work, command)).toMatchObject({ status: 1 })
    const resumed = train(work, { layout: 'mcore', data, lora, seqLength: 256, resume: true })
    expect(resumed.argv).toContain('--lora-load')
    const { status, out } = await runCommand(work, resumed)
    expect([status, out.flatMap(line => parseIterationLine(line)?.iteration ?? [])]).toEqual([0, [3, 4]])
    const trained = await openMegatronCheckpoint(join(work.dir, 'trained'))
    onTestFinished(() => trained.close())
    expect(trained.lora).toMatchObject({ r: 2, alpha: 4 })
  })
})
