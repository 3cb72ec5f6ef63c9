// The whole life of a small language model on this machine: text → dataset, weights → shards, training, shards → weights.
// Kill it at any moment and run it again: it goes on where it was.
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, megatronToHf, plan, preprocess, run, train } from 'ascendflow'
import { showProgress } from 'ascendflow/report'
import { makeModel } from './quickstart/make-model.ts'

const store = process.env.ASCENDFLOW_STORE ?? '.ascendflow'
const text = join(import.meta.dirname, 'quickstart')
const modelFolder = join(store, 'quickstart-model')
await makeModel(modelFolder)

const base = hfModel(modelFolder)
const parallel = { tp: 2, pp: 2 }
const rows = { tokenizer: base, handler: 'GeneralInstructionHandler', seqLength: 128, appendEod: true } as const

const data = preprocess({ corpus: corpus(join(text, 'instructions.jsonl')), ...rows })
const validation = preprocess(
  { corpus: corpus(join(text, 'held-out.jsonl')), ...rows },
  { name: 'preprocess-held-out' },
)
const init = hfToMegatron({ model: base, parallel })
const recipe = { seqLength: 128, microBatchSize: 8, globalBatchSize: 16, epochs: 6, lr: 2e-3, minLr: 2e-4 }
const trained = train({ data, validation, init, parallel, ...recipe, lrWarmupFraction: 0.05 })
const model = megatronToHf({ checkpoint: trained, like: base })

console.log(`${await plan(model, { store })}\n`)

const job = run({ model, trained }, { store })
showProgress(job)
const { model: hf, trained: result } = await job

const { before, after } = result.validationLoss ?? {}
console.log(`
held-out loss  ${before?.toFixed(3)} → ${after?.toFixed(3)}
speed          ${result.tokensPerSecond?.toFixed(0)} tokens/s
model          ${hf.path}`)
