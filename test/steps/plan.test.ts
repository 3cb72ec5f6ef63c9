import { execFileSync } from 'node:child_process'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  ascendSpeed,
  corpus,
  devices,
  hfModel,
  hfToMegatron,
  megatronToHf,
  models,
  plan,
  preprocess,
  run,
  toShell,
  train,
  trainingMemory,
} from 'ascendflow'
import { beforeAll, expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string
let base: ReturnType<typeof hfModel>
let rows: ReturnType<typeof corpus>

beforeAll(async () => {
  dir = await newFolder()
  await makeModel(join(dir, 'model'))
  base = hfModel(join(dir, 'model'))
  const lines = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 24)
  await writeFile(join(dir, 'rows.jsonl'), lines.join('\n'))
  rows = corpus(join(dir, 'rows.jsonl'))
})

function pipeline(parallel: { tp: number; pp: number }) {
  const data = preprocess({ corpus: rows, tokenizer: base, handler: 'GeneralInstructionHandler', appendEod: true })
  const init = hfToMegatron({ model: base, parallel })
  const model = train({ data, init, parallel, seqLength: 128, globalBatchSize: 8, lr: 1e-3, epochs: 2 })
  return { data, hf: megatronToHf({ checkpoint: model, like: base }) }
}

it('a plan with premises says memory, time and price of a training, and the price once its data is there', async () => {
  const store = join(dir, 'store')
  const { data, hf } = pipeline({ tp: 2, pp: 1 })
  const premises = { device: devices.snt9b, pricePerDeviceHour: 30 }
  const before = await plan(hf, { store, premises })
  const [estimate] = before.steps.flatMap(step => step.estimate ?? [])
  expect(estimate).toMatchObject({ devices: 2, memory: { fits: true, usableBytes: devices.snt9b.usableBytes } })
  expect(estimate?.total).toBeUndefined()
  expect(String(before)).toMatch(
    /train needs\n {2}memory {3}[█░]{24} \d+\.\d of 61\.0 GiB\n.*\n {2}time {5}.*not known yet/,
  )
  await run(data, { store })
  const after = (await plan(hf, { store, premises })).steps.find(step => step.name === 'train')?.estimate
  expect(after?.total?.iterations).toBe(6)
  expect(after?.total?.price).toBeCloseTo((after?.total?.deviceHours ?? 0) * 30)
})

it('a plan says so when a training does not fit the devices', async () => {
  const { architecture } = models.find(({ id }) => id === 'llama2-70b')!
  const layout = { tp: 8, pp: 1, worldSize: 8 }
  const { fits } = trainingMemory({ model: architecture, layout, seqLength: 4096 }, devices.snt9b)
  expect(fits).toBe(false)
  const small = { ...devices.snt9b, usableBytes: 2 ** 31 }
  const text = String(
    await plan(pipeline({ tp: 1, pp: 1 }).hf, { store: join(dir, 'none'), premises: { device: small } }),
  )
  expect(text).toMatch(/█{24} \d\.\d of 2\.0 GiB, it does not fit/)
})

it('names the nearest layout that fits, with its numbers, and stays within 80 columns', async () => {
  await cp(join(dir, 'model'), join(dir, 'large'), { recursive: true })
  const config = JSON.parse(await readFile(join(dir, 'large', 'config.json'), 'utf8'))
  const sizes = { hidden_size: 8192, intermediate_size: 28672, num_attention_heads: 64, num_key_value_heads: 8 }
  const shape = { ...config, ...sizes, head_dim: 128, num_hidden_layers: 80, max_position_embeddings: 4096 }
  await writeFile(join(dir, 'large', 'config.json'), JSON.stringify(shape))
  const model = hfModel(join(dir, 'large'))
  const data = preprocess({ corpus: rows, tokenizer: base, handler: 'GeneralInstructionHandler', appendEod: true })
  const training = (nodes: number) => {
    const init = hfToMegatron({ model, parallel: { tp: 8, pp: 1 } })
    return train({ data, init, nodes, devicesPerNode: 8, seqLength: 4096, globalBatchSize: 64, lr: 1e-5 })
  }
  const planned = (nodes: number) =>
    plan(training(nodes), { store: join(dir, 'none'), premises: { device: devices.snt9b } })
  const text = (await planned(8)).toString(80)
  expect(text).toMatch(/, it does not fit\n/)
  expect(text).toMatch(
    /nearest {2}tp 8 · pp 4 · dp 2 on the same devices · microBatchSize 1 · \d+\.\d GiB\n {11}\d+\.\d s an iteration\n/,
  )
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  const toolchain = ascendSpeed({ dir: '/opt/MindSpeed-LLM', generation: 'mindspeed-llm' })
  const init = hfToMegatron({ model, parallel: { tp: 8, pp: 2 }, layout: 'mcore' })
  const numbers = { nodes: 8, devicesPerNode: 8, seqLength: 4096, globalBatchSize: 64, lr: 1e-5 }
  const onNpus = (more: object) =>
    plan(train({ data, init, tokenizer: base, toolchain, ...numbers, ...more }), {
      ...{ store: join(dir, 'none'), premises: { device: devices.snt9b } },
    })
  expect(String(await onNpus({}))).toMatch(/nearest {2}tp 8 · pp 2 · dp 4 on the same devices · .*distributedOptimizer/)
  const saved = await onNpus({ distributedOptimizer: true, recompute: 'full' })
  expect(saved.steps.at(-1)?.estimate?.memory.fits).toBe(true)
  const contexts = await onNpus({ distributedOptimizer: true, recompute: 'full', parallel: { cp: 2 } })
  expect(contexts.steps.at(-1)?.facts[0]).toBe('tp 8 · pp 2 · cp 2 · dp 2 · 32 micro batches')
  const small = await planned(1)
  expect(small.steps.flatMap(({ estimate }) => estimate?.nearest ?? [])).toMatchObject([{ devices: 32 }])
  expect(String(small)).toMatch(/nearest {2}tp \d · pp \d+ · dp 1 on 32 devices/)
})

it("exports a pipeline as the toolchain's scripts, which bash can read and which agree with each other", async () => {
  const store = join(dir, 'store')
  const { data, hf } = pipeline({ tp: 2, pp: 1 })
  await run(data, { store })
  const options = {
    store,
    folder: '/mnt/flow',
    toolchain: ascendSpeed({ dir: '/opt/ModelLink', generation: 'modellink-1.1' }),
  }
  const scripts = await toShell(hf, options)
  const names = scripts.map(({ name }) => name)
  expect(names).toEqual(['0_run_all.sh', '1_preprocess.sh', '2_hfToMegatron.sh', '3_train.sh', '4_megatronToHf.sh'])
  for (const { text } of scripts) execFileSync('bash', ['-n'], { input: text })
  const text = (name: string) => scripts.find(script => script.name === name)?.text ?? ''
  expect(text('1_preprocess.sh')).toContain('PROCESSED_DATA_PREFIX=/mnt/flow/preprocess/data\n')
  expect(text('2_hfToMegatron.sh')).toContain('CONVERT_MODEL_PATH=/mnt/flow/hfToMegatron/weights\n')
  expect(text('3_train.sh')).toContain('TRAIN_ITERS=6\n')
  for (const path of ['/mnt/flow/preprocess/data', '/mnt/flow/hfToMegatron/weights'])
    expect(text('3_train.sh')).toContain(path)
  expect(text('4_megatronToHf.sh')).toContain('MODEL_SAVE_PATH=/mnt/flow/train/checkpoint\n')
})

it('refuses to export a training whose iterations are not known yet', async () => {
  const toolchain = ascendSpeed({ dir: '/opt/ModelLink', generation: 'modellink-1.1' })
  const { hf } = pipeline({ tp: 1, pp: 1 })
  await expect(toShell(hf, { store: join(dir, 'none'), folder: '/mnt/flow', toolchain })).rejects.toThrow(
    /train: its iterations are known when its data is\. Run preprocess first/,
  )
})
