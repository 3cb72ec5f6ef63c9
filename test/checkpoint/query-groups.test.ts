import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listShards } from '../../src/checkpoint/megatron-folder.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { dictEntries, type PickleNamespace } from '../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import { adapterName } from '../../src/models/lora-rules.ts'
import { familyModels, familyWeights } from './fixtures/families.ts'
import { memorySource, readAll, sorted, temporaryFolder, type Weights } from './fixtures/tiny-model.ts'

// Two groups on four ranks, as the vendor recommends for glm3-6b.
const model = familyModels.chatglm!
const parallel = { tp: 4, pp: 1 }
const common = { layout: 'legacy', iteration: 1, parallel } as const

async function argsOf(dir: string): Promise<ReadonlyMap<string, unknown>> {
  const file = await openTorchFile((await listShards(dir, 1))[0]![0]!)
  await file.close()
  return (dictEntries(file.value)!.get('args') as PickleNamespace).fields
}

test('with more ranks than groups, args count the copies, and the true number is kept beside', async () => {
  const dir = await temporaryFolder()
  const source = memorySource(familyWeights(model))
  await writeMegatronCheckpoint(dir, { ...common, source, architecture: model })
  const args = await argsOf(dir)
  expect([args.get('num_query_groups'), args.get('num_query_groups_before_copies')]).toEqual([4, 2])
  const opened = await openMegatronCheckpoint(dir)
  // The family is guessed from the partial RoPE that legacy args have as a flag of their own.
  expect(opened.architecture).toMatchObject({ family: 'chatglm', numQueryGroups: 2, rotaryPercent: 0.5 })
  expect([args.get('rotary_percent'), args.get('use_partial_rope')]).toEqual([{ type: 'float', value: 1 }, true])
  await opened.close()
})

test('copies that were trained apart are refused by name, and are groups of their own to who asks for them', async () => {
  const dir = await temporaryFolder()
  const four = { ...model, numQueryGroups: 4 }
  // As training with four groups leaves it: the copies differ.
  await writeMegatronCheckpoint(dir, { ...common, source: memorySource(familyWeights(four)), architecture: four })
  const two = await openMegatronCheckpoint(dir, { architecture: model })
  const name = 'transformer.encoder.layers.0.self_attention.query_key_value.weight'
  const rows = two.tensors.get(name)!.shape[0]!
  await expect(two.readRows(name, 0, rows)).rejects.toMatchObject({ code: 'bad-format' })
  await expect(two.readRows(name, 0, rows)).rejects.toThrow(
    /mp_rank_01.*copies of a key\/value group in 'transformer.*query_key_value.weight' to be equal/,
  )
  await two.close()
  const opened = await openMegatronCheckpoint(dir, { architecture: four })
  expect(sorted(await readAll(opened))).toEqual(sorted(familyWeights(four)))
  await opened.close()
})

test('adapters of fused heads are copied with their groups and come back equal', async () => {
  const dir = await temporaryFolder()
  const weights = familyWeights(model)
  const base = join(dir, 'base')
  await writeMegatronCheckpoint(base, { ...common, source: memorySource(weights), architecture: model })
  const r = 2
  const adapters = new Map<string, Weights extends ReadonlyMap<string, infer T> ? T : never>()
  const qkvRows = (8 + 2 * 2) * model.kvChannels
  for (let layer = 0; layer < model.numLayers; layer++) {
    for (const [matrix, shape] of [
      ['A', [r, model.hiddenSize]],
      ['B', [qkvRows, r]],
    ] as const) {
      const count = shape[0] * shape[1] * 2
      const bytes = Uint8Array.from({ length: count }, (_, i) => (i % 2 === 0 ? i + 7 * layer : 0x3d))
      adapters.set(adapterName(layer, 'linear_qkv', matrix), { dtype: 'BF16', shape, bytes })
    }
  }
  const lora = { r, alpha: 4, targets: ['linear_qkv'], base } as const
  const source = memorySource(adapters)
  for (const tp of [2, 4, 8]) {
    const path = join(dir, `tp${tp}`)
    await writeMegatronCheckpoint(path, { ...common, parallel: { tp, pp: 1 }, source, architecture: model, lora })
    const opened = await openMegatronCheckpoint(path, { architecture: model })
    const found = new Map([...(await readAll(opened))].filter(([name]) => name.includes('lora')))
    expect(sorted(found)).toEqual(sorted(adapters))
    await opened.close()
  }
})
