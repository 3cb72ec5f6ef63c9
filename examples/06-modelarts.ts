// The vendor's ModelArts guide for llama2-13b as one program: pretraining, SFT and LoRA, from a bucket and back to it.
// Run it where the SFS Turbo share is mounted, in a notebook or on an ECS; killed and run again, it goes on where it was.
import {
  ascendSpeed,
  guideParameters,
  hfToMegatron,
  local,
  megatronToHf,
  plan,
  preprocess,
  run,
  train,
} from 'ascendflow'
import { credentialsFrom, modelArts, obsSync } from 'ascendflow/modelarts'
import { showProgress } from 'ascendflow/report'

const { WORK = '/home/ma-user/work', BUCKET = 'standard-llama2-13b', POOL = 'pool-maosdk-0a1b2c' } = process.env
const { SHARE = '192.168.20.7:/', IMAGE = 'my-org/pytorch_2_1_ascend:train-v3' } = process.env
const cloud = { region: 'cn-southwest-2', credentials: credentialsFrom(process.env) }
const bucket = `obs://${BUCKET}`
const npus = modelArts({
  ...{ ...cloud, image: IMAGE, poolId: POOL, logFolder: `/${BUCKET}/logs/` },
  mounts: [{ local: WORK, nfs: SHARE }],
})
const toolchain = ascendSpeed({ dir: `${WORK}/llm_train/ModelLink`, generation: 'modellink-1.1' })

const { syncFromObs, syncToObs } = obsSync(cloud)
const weights = syncFromObs({ from: `${bucket}/model/llama-2-13b-chat-hf/` }, { name: 'weights' })
const text = syncFromObs({ from: `${bucket}/training_data/pretrain/` }, { name: 'text' })
const instructions = syncFromObs({ from: `${bucket}/training_data/finetune/` }, { name: 'instructions' })
const base = { kind: 'hf-model', path: weights.path } as const

// Conversions and preprocessing run here and give the toolchain's own bytes: only trainings take NPUs.
const numbers = guideParameters({ TP: 8, PP: 1, MBS: 4, GBS: 512, SEQ_LEN: 4096, LR: 2.5e-5, MIN_LR: 2.5e-6, EPOCH: 5 })
const init = hfToMegatron({ model: base, parallel: numbers.parallel })
const rows = { tokenizer: base, seqLength: numbers.seqLength, appendEod: true }
const pretrainText = { kind: 'corpus', path: text.path, textKey: 'text' } as const
const pretrainData = preprocess({ ...rows, corpus: pretrainText }, { name: 'pretrain-data' })
const sftText = { kind: 'corpus', path: instructions.path, textKey: 'instruction' } as const
const sftData = preprocess({ ...rows, corpus: sftText, handler: 'GeneralInstructionHandler' }, { name: 'sft-data' })

function trained(name: string, data: typeof sftData, adapters: { lora?: { r: number; alpha: number } } = {}) {
  const training = { ...numbers, data, init, tokenizer: base, devicesPerNode: numbers.parallel.tp, toolchain }
  const checkpoint = train({ ...training, ...adapters }, { name })
  const { path } = megatronToHf({ checkpoint, like: base }, { name: `${name}-hf` })
  return { checkpoint, saved: syncToObs({ path, to: `${bucket}/models/${name}/` }, { name: `${name}-saved` }) }
}
const pretrain = trained('pretrain', pretrainData)
const sft = trained('sft', sftData)
const lora = trained('lora', sftData, { lora: { r: 16, alpha: 32 } })

const options = { store: `${WORK}/flows`, on: { default: local(), train: npus } }
console.log(`${await plan({ pretrain, sft, lora }, options)}\n`)
if (!process.argv.includes('--plan')) {
  const job = run({ pretrain, sft, lora }, options)
  showProgress(job)
  for (const [name, { checkpoint, saved }] of Object.entries(await job))
    console.log(`${name}: loss ${checkpoint.loss?.toFixed(3)}, ${saved.url}`)
}
