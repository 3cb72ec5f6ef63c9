// Does, in the folder given, what reshard.py looks at with PyTorch and PEFT: every checkpoint of reshard/in cut like the
// others (tasks.json), and PEFT adapters taken to Megatron and back.
import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  hfModel,
  hfToMegatron,
  type MegatronCheckpoint,
  megatronToHf,
  megatronToPeft,
  peftAdapter,
  peftToMegatron,
  reshard,
  run,
} from 'ascendflow'

const dir = process.argv[2]!
const store = join(dir, 'store')
const architecture = {
  ...{ family: 'qwen2', numLayers: 2, hiddenSize: 8, ffnHiddenSize: 8, numAttentionHeads: 4, numQueryGroups: 2 },
  ...{ kvChannels: 2, vocabSize: 11, maxPositionEmbeddings: 64, normEpsilon: 1e-6, rotaryBase: 10000 },
  ...{ tiedEmbeddings: false, addQkvBias: true },
}

interface Cut {
  readonly layout: 'legacy' | 'mcore'
  readonly tp: number
  readonly pp: number
  readonly tied: boolean
}

const tasks = JSON.parse(await readFile(join(dir, 'tasks.json'), 'utf8')) as {
  readonly name: string
  readonly from: Cut & { readonly path: string }
  readonly to: Cut
}[]
const calls = tasks.map(({ name, from, to }) => {
  const { tied, ...cut } = from
  const model = { ...architecture, tiedEmbeddings: tied }
  const checkpoint: MegatronCheckpoint = { kind: 'megatron-checkpoint', iteration: 7, architecture: model, ...cut }
  return [name, reshard({ checkpoint, parallel: { tp: to.tp, pp: to.pp }, layout: to.layout }, { name })] as const
})
const made = await run(Object.fromEntries(calls), { store })
for (const [name, { path }] of Object.entries(made)) await cp(path, join(dir, 'out', name), { recursive: true })

const hasPeft = process.argv[3] === 'peft'
if (hasPeft) {
  const like = hfModel(join(dir, 'model'))
  const base = hfToMegatron({ model: like, parallel: { tp: 2, pp: 2 } })
  const trained = peftToMegatron({ adapter: peftAdapter(join(dir, 'adapter')), base, parallel: { tp: 4, pp: 1 } })
  const out = await run(
    { back: megatronToPeft({ checkpoint: trained, like }), merged: megatronToHf({ checkpoint: trained, like }) },
    { store },
  )
  await cp(out.back.path, join(dir, 'adapter-back'), { recursive: true })
  await cp(out.merged.path, join(dir, 'merged'), { recursive: true })
}
