// Carries out cases.json of the folder given: NAME.json says where each training's files are and what it printed.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, hfModel, hfToMegatron, megatronToHf, preprocess, run, train } from 'ascendflow'

interface Case {
  readonly model: string
  readonly data: 'text' | 'rows'
  readonly tp: number
  readonly pp: number
  readonly layout: 'legacy' | 'mcore'
  readonly recipe?: Partial<Recipe>
  readonly lora?: { readonly r: number; readonly alpha: number; readonly targets: readonly Target[] }
}
type Target = 'qkv' | 'proj' | 'fc1' | 'fc2'

interface Recipe {
  readonly seqLength: number
  readonly globalBatchSize: number
  readonly lr: number
  readonly trainIters: number
}

const dir = process.argv[2]!
const handlers = { text: 'GeneralPretrainHandler', rows: 'GeneralInstructionHandler' } as const
const { recipe, cases }: { recipe: Recipe; cases: Record<string, Case> } = JSON.parse(
  await readFile(join(dir, 'cases.json'), 'utf8'),
)

for (const [name, { model: folder, data: rows, tp, pp, layout, lora, recipe: own }] of Object.entries(cases)) {
  const model = hfModel(join(dir, 'hf', folder))
  const text = corpus(join(dir, `${rows}.jsonl`))
  const data = preprocess({ corpus: text, tokenizer: model, handler: handlers[rows], appendEod: true })
  const init = hfToMegatron({ model, parallel: { tp, pp }, layout })
  const adapters = lora && { ...lora, targets: lora.targets.map(target => `linear_${target}` as const) }
  const input = { data, init, ...recipe, ...own, dtype: 'fp32', ...(adapters && { lora: adapters }) } as const
  const trained = train(input)
  // One iteration of the same run, whose warm-up starts at rate 0: the adapters as they began.
  const start = train({ ...input, trainIters: 1 }, { name: 'start' })
  const lines: string[] = []
  const hf = megatronToHf({ checkpoint: trained, like: model })
  const job = run({ data, trained, start, hf }, { store: join(dir, 'store') })
  job.on('step.log', ({ step, line }) => {
    if (step === 'train') lines.push(line)
  })
  const out = await job
  const found = { data: out.data.path, checkpoint: out.trained.path, start: out.start.path, hf: out.hf.path, lines }
  await writeFile(join(dir, `${name}.json`), JSON.stringify(found))
}
