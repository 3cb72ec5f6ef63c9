import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
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
    /train needs\n {2}memory {2}[█░]{24} \d+\.\d of 61\.0 GiB\n.*\n {2}time .*not known yet/,
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
