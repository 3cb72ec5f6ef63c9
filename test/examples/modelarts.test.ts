import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { corpus, hfModel, hfToMegatron, preprocess, run, train } from 'ascendflow'
import { obsSync } from 'ascendflow/modelarts'
import { makeToolchainDouble, startCloudDouble } from 'ascendflow/testing'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

/** Where the double is, and what is smaller than the guide's: nothing else of the example is touched. */
const scaled = vi.hoisted(() => ({ cloud: {} as object, numbers: {} as object }))
vi.mock('ascendflow/modelarts', async original => {
  const real = await original<typeof import('ascendflow/modelarts')>()
  type Options = Parameters<typeof real.modelArts>[0]
  return {
    ...real,
    modelArts: (options: Options) => real.modelArts({ ...options, ...scaled.cloud, pollMs: 20 }),
    obsSync: (options: Options) => real.obsSync({ ...options, ...scaled.cloud }),
  }
})
vi.mock('ascendflow', async original => {
  const real = await original<typeof import('ascendflow')>()
  return { ...real, guideParameters: (given: object) => real.guideParameters({ ...given, ...scaled.numbers }) }
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

const bucket = 'obs://standard-llama2-13b'
const instructions = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').filter(Boolean)
const texts = instructions.map(row => JSON.stringify({ text: Object.values(JSON.parse(row)).join('\n') }))

/** A folder of one's own with a small model and rows, all of it in the bucket too, and a share with the toolchain. */
async function prepare() {
  const [own, share] = [await newFolder(), await newFolder()]
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(own, name)), { recursive: true })
    await writeFile(join(own, name), text)
  }
  await makeModel(join(own, 'model'))
  await write('pretrain/alpaca.jsonl', texts.slice(0, 160).join('\n'))
  await write('finetune/alpaca_gpt4_data.jsonl', instructions.slice(0, 48).join('\n'))

  const toolchain = await makeToolchainDouble(join(share, 'llm_train/ModelLink'), { generation: 'modellink-1.1' })
  const double = await startCloudDouble({ buckets: ['standard-llama2-13b'], imageEnv: toolchain.env() })
  onTestFinished(() => double.close())
  const endpoints = { modelarts: double.url, iam: double.url, obs: double.obsUrl }
  scaled.cloud = { endpoints, retryDelayMs: 1 }
  const { ak, sk } = double.credentials
  const env = { HW_ACCESS_KEY: ak, HW_SECRET_KEY: sk, WORK: share, POOL: 'pool-double', SHARE: '127.0.0.1:/share' }
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)

  const { syncToObs, syncFromObs } = obsSync({ region: double.region, credentials: { ak, sk } })
  const places = {
    model: 'model/llama-2-13b-chat-hf',
    pretrain: 'training_data/pretrain',
    finetune: 'training_data/finetune',
  }
  const send = () => {
    const sent = Object.entries(places).map(([name, place]) => [
      name,
      syncToObs({ path: join(own, name), to: `${bucket}/${place}/` }, { name: `send-${name}` }),
    ])
    return run(Object.fromEntries(sent), { store: join(own, 'store') })
  }
  return { own, share, double, syncFromObs, write, send, secret: sk }
}

/** What the example prints. */
async function runExample(...words: readonly string[]): Promise<readonly string[]> {
  vi.restoreAllMocks()
  vi.resetModules()
  const print = vi.spyOn(console, 'log').mockImplementation(() => {})
  vi.spyOn(process.stderr, 'write').mockImplementation(() => true)
  const argv = [...process.argv, ...words]
  vi.spyOn(process, 'argv', 'get').mockReturnValue(argv)
  await import('../../examples/06-modelarts.ts')
  return print.mock.calls.flat().map(String)
}

/** Numbers of meta-llama/Llama-2-13b-chat-hf. */
const llama213b = {
  ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_size: 5120, intermediate_size: 13824 },
  ...{ num_hidden_layers: 40, num_attention_heads: 40, num_key_value_heads: 40, vocab_size: 32000 },
  ...{ max_position_embeddings: 4096, rms_norm_eps: 1e-5, tie_word_embeddings: false, torch_dtype: 'float16' },
  ...{ hidden_act: 'silu', bos_token_id: 1, eos_token_id: 2 },
}

describe('the guide of ModelArts as a program', () => {
  it('plans llama2-13b, before and after its data are there, and creates nothing', async () => {
    const { share, double, syncFromObs, write, send } = await prepare()
    scaled.numbers = {}
    const [before] = await runExample('--plan')
    expect(rowsOfPlan(before)).toEqual([
      ...['weights ready here', 'text ready here', 'pretrain-data waiting here', 'hfToMegatron waiting here'],
      ...['pretrain waiting modelarts', 'pretrain-hf waiting here', 'pretrain-saved waiting here'],
      ...['instructions ready here', 'sft-data waiting here'],
      ...['sft waiting modelarts', 'sft-hf waiting here', 'sft-saved waiting here'],
      ...['lora waiting modelarts', 'lora-hf waiting here', 'lora-saved waiting here'],
    ])
    expect(before?.match(/tp 8 · pp 1 · dp 1 · 128 micro batches/g)?.length).toBe(3)

    await write('model/config.json', JSON.stringify(llama213b))
    await send()
    const fetched = Object.entries({ weights: 'model/llama-2-13b-chat-hf', text: 'training_data/pretrain' })
    const refs = fetched.map(([name, place]) => [name, syncFromObs({ from: `${bucket}/${place}/` }, { name })] as const)
    await run(Object.fromEntries(refs), { store: join(share, 'flows') })
    const [after] = await runExample('--plan')

    expect(after).toMatch(/^weights +recorded .* 6 files · 2\.0 MB$/m)
    expect(after).toMatch(/^pretrain-data +ready .*\n +GeneralPretrainHandler, vocabulary 1,024$/m)
    expect(after).toMatch(/^hfToMegatron +ready .*\n +llama, 40 layers × 5120 · tp 8 · pp 1$/m)
    expect(double.jobs).toEqual([])
  })

  it('takes a model from a bucket through three trainings and back', { timeout: 180_000 }, async () => {
    const { own, share, double, syncFromObs, write, send, secret } = await prepare()
    scaled.numbers = { TP: 2, MBS: 4, GBS: 8, SEQ_LEN: 128, MAX_PE: 128, LR: 5e-3, MIN_LR: 1e-3, EPOCH: 1 }
    await send()
    const said = await runExample()
    expect(said.slice(1).map(line => line.replace(/\d\.\d{3}/, 'x'))).toEqual([
      `pretrain: loss x, ${bucket}/models/pretrain/`,
      `sft: loss x, ${bucket}/models/sft/`,
      `lora: loss x, ${bucket}/models/lora/`,
    ])
    expect(double.jobs.length).toBe(3)
    expect(await filesWith(secret, join(share, 'flows'))).toEqual([])

    // What is in the bucket after: whole models, loaded and measured on rows that they were trained on.
    const firstLosses = await lossesOfFirstIterations(join(share, 'flows/runs'))
    await write('texts.jsonl', texts.slice(0, 60).join('\n'))
    await write('instructions.jsonl', instructions.slice(0, 16).join('\n'))
    const rowsOf = (name: string, handler: 'GeneralPretrainHandler' | 'GeneralInstructionHandler') => {
      const rows = { corpus: corpus(join(own, `${name}.jsonl`)), tokenizer: hfModel(join(own, 'model')) }
      return preprocess({ ...rows, handler, appendEod: true }, { name })
    }
    const pretrainRows = rowsOf('texts', 'GeneralPretrainHandler')
    const rows = rowsOf('instructions', 'GeneralInstructionHandler')
    const measured = Object.entries({ pretrain: pretrainRows, sft: rows, lora: rows }).map(([name, data]) => {
      const { path } = syncFromObs({ from: `${bucket}/models/${name}/` }, { name: `fetch-${name}` })
      const init = hfToMegatron({ model: { kind: 'hf-model', path } }, { name: `shards-${name}` })
      const once = { init, data, validation: data, seqLength: 128, globalBatchSize: 8, trainIters: 1, lr: 1e-9 }
      return [name, train(once, { name: `measure-${name}` })] as const
    })
    const results = await run(Object.fromEntries(measured), { store: join(own, 'store') })
    for (const [name, { validationLoss }] of Object.entries(results)) {
      expect(firstLosses[name]).toBeGreaterThan(6.5)
      expect(validationLoss?.before).toBeLessThan(firstLosses[name]! - 0.1)
    }
  })
})

/** Name, state and place of each call. */
const rowsOfPlan = (text = '') =>
  [...text.matchAll(/^([\w-]+) +(\w+) +[0-9a-f]{12} +(\w+)/gm)].map(
    ([, name, state, place]) => `${name} ${state} ${place}`,
  )

async function lossesOfFirstIterations(runs: string): Promise<Record<string, number>> {
  const [id] = await readdir(runs)
  const events = (await readFile(join(runs, id!, 'events.jsonl'), 'utf8')).trimEnd().split('\n')
  const first: Record<string, number> = {}
  for (const event of events.map(line => JSON.parse(line)))
    if (event.type === 'step.metrics' && event.values.iteration === 1) first[event.step] = event.values.loss
  return first
}

async function filesWith(secret: string, folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder, { recursive: true })).filter(name => /\.(jsonl?|txt|log)$/.test(name))
  const found = await Promise.all(names.map(name => readFile(join(folder, name), 'utf8')))
  return names.filter((_, at) => found[at]?.includes(secret))
}
