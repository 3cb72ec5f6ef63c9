// The pipeline of examples/01-quickstart.ts with a shorter training, once for each stored type: bf16.json, fp32.json.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, megatronToHf, preprocess, run, train } from 'ascendflow'
import { makeModel } from '../../examples/quickstart/make-model.ts'

const dir = process.argv[2]!
const text = join(import.meta.dirname, '../../examples/quickstart')
await makeModel(join(dir, 'model'))

const base = hfModel(join(dir, 'model'))
const rows = { tokenizer: base, handler: 'GeneralInstructionHandler', seqLength: 128, appendEod: true } as const
const data = preprocess({ corpus: corpus(join(text, 'instructions.jsonl')), ...rows })
const validation = preprocess({ corpus: corpus(join(text, 'held-out.jsonl')), ...rows }, { name: 'held-out' })
const init = hfToMegatron({ model: base, parallel: { tp: 2, pp: 2 } })
const recipe = { seqLength: 128, microBatchSize: 8, globalBatchSize: 16, epochs: 2, lr: 2e-3, minLr: 2e-4 }

for (const dtype of ['bf16', 'fp32'] as const) {
  const trained = train({ data, validation, init, ...recipe, lrWarmupFraction: 0.05, dtype })
  const hf = megatronToHf({ checkpoint: trained, like: base })
  const out = await run({ trained, validation, hf }, { store: join(dir, 'store') })
  const { path: heldOut, samples } = out.validation
  await writeFile(
    join(dir, `${dtype}.json`),
    JSON.stringify({ ...out.trained.validationLoss, hf: out.hf.path, heldOut, rows: samples }),
  )
}
