// The four steps done by ModelLink or MindSpeed-LLM on NPUs: jobs that are proved by the files that they leave behind.
// TOOLCHAIN=/opt/ModelLink MODEL=models/llama2-7b TEXT=data/alpaca.jsonl node --import tsx examples/02-npu-nodes.ts
import {
  ascendSpeed,
  corpus,
  hfModel,
  hfToMegatron,
  local,
  megatronToHf,
  plan,
  preprocess,
  run,
  train,
} from 'ascendflow'
import { showProgress } from 'ascendflow/report'

const { TOOLCHAIN = '/opt/ModelLink', MODEL = 'model', TEXT = 'text.jsonl', STORE = '.ascendflow' } = process.env

const toolchain = ascendSpeed({ dir: TOOLCHAIN })
const base = hfModel(MODEL)
const parallel = { tp: 2, pp: 1 }

const rows = { corpus: corpus(TEXT), tokenizer: base, handler: 'GeneralInstructionHandler', appendEod: true } as const
const data = preprocess({ ...rows, toolchain })
// Left to this library, a conversion needs neither Python nor a node; with the toolchain it is a job.
const init = hfToMegatron({ model: base, parallel, toolchain })
const recipe = { seqLength: 128, microBatchSize: 2, globalBatchSize: 16, epochs: 1, lr: 1e-4 }
const trained = train({ data, init, tokenizer: base, devicesPerNode: 4, ...recipe, toolchain })
const model = megatronToHf({ checkpoint: trained, like: base, toolchain })

// Jobs run where `on` says, and what is done there is the same.
const options = { store: STORE, on: local({ devicesPerNode: 8 }) }
console.log(`${await plan(model, options)}\n`)

const job = run({ model, trained }, options)
showProgress(job)
const { model: hf, trained: result } = await job
console.log(`iteration ${result.iteration}, loss ${result.loss?.toFixed(3)}, model ${hf.path}`)
