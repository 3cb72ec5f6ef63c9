import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hfModel, hfToMegatron, megatronToHf, mergeLora, plan, type Ref, reshard, run } from 'ascendflow'
import { beforeAll, describe, expect, it } from 'vitest'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import { familyConfig, familyModels, familyWeights } from '../checkpoint/fixtures/families.ts'
import { memorySource, safetensorsBytes } from '../checkpoint/fixtures/tiny-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string
let store: string

beforeAll(async () => {
  dir = await newFolder()
  store = join(dir, 'store')
  for (const [family, model] of Object.entries(familyModels)) {
    await mkdir(join(dir, family))
    await writeFile(join(dir, family, 'config.json'), JSON.stringify(familyConfig(model)))
    await writeFile(join(dir, family, 'model.safetensors'), safetensorsBytes(familyWeights(model)))
  }
})

async function refusal(target: Ref<unknown>) {
  const error = await plan(target, { store: join(dir, 'nowhere') }).catch(caught => caught)
  return `${error.code} | ${error.message.split('\n')[0]}`
}

describe('reshard', () => {
  it.each(Object.keys(familyModels))('keeps the weights of a %s', async family => {
    const model = hfModel(join(dir, family))
    const straight = hfToMegatron({ model, layout: 'mcore' })
    const cut = reshard({ checkpoint: straight, parallel: { tp: 4, pp: 3, layersPerStage: [1, 2, 1] } })
    const back = megatronToHf({ checkpoint: cut, like: model }, { name: 'back' })
    const out = await run(
      { cut, back, hf: megatronToHf({ checkpoint: straight, like: model }, { name: 'straight' }) },
      { store },
    )
    const { path, ...facts } = out.cut
    expect(facts).toEqual({
      ...{ kind: 'megatron-checkpoint', iteration: 1, tp: 4, pp: 3, layersPerStage: [1, 2, 1], layout: 'mcore' },
      ...{ architecture: familyModels[family], optimizer: 'none' },
    })
    expect(await readFile(join(out.back.path, 'model.safetensors'))).toEqual(
      await readFile(join(out.hf.path, 'model.safetensors')),
    )
  })

  it('refuses, before anything runs, what cannot be', async () => {
    const checkpoint = hfToMegatron({ model: hfModel(join(dir, 'qwen3')), layout: 'mcore' })
    expect(await refusal(reshard({ checkpoint, layout: 'legacy' }))).toMatch(
      /^unsupported \| reshard: A qwen3 model has .* for which the legacy layout has no place/,
    )
    expect(await refusal(reshard({ checkpoint, parallel: { pp: 5 } }))).toMatch(/^invalid-layout \| reshard: .*pp 5/)
  })
})

describe('mergeLora', () => {
  it('refuses a checkpoint without adapters', async () => {
    const base = hfToMegatron({ model: hfModel(join(dir, 'llama')) })
    await expect(run(mergeLora({ base, adapter: base }), { store })).rejects.toThrow('holds no adapters to merge')
  })

  it('gives a whole checkpoint, cut as the adapters are, and leaves the iteration of training behind', async () => {
    const architecture = familyModels.llama!
    const { hiddenSize: h, ffnHiddenSize: f, numAttentionHeads, numQueryGroups, kvChannels: d } = architecture
    const widths: Readonly<Record<string, readonly [number, number]>> = {
      linear_qkv: [(numAttentionHeads + 2 * numQueryGroups) * d, h],
      linear_proj: [h, numAttentionHeads * d],
      linear_fc1: [2 * f, h],
      linear_fc2: [h, f],
    }
    // Adapters whose B is zero, as before the first step: merged, the weights are the base's to the bit.
    const zeros = new Map(
      Array.from({ length: architecture.numLayers }, (_, layer) =>
        loraTargets.flatMap(target => {
          const [output, input] = widths[target]!
          return [['A', 2, input] as const, ['B', output, 2] as const].map(([matrix, ...shape]) => {
            const values = new Float32Array(shape[0]! * shape[1]!).fill(matrix === 'A' ? 1 : 0)
            const tensor = { dtype: 'F32' as const, shape, bytes: new Uint8Array(values.buffer) }
            return [`layers.${layer}.${target}.lora_${matrix}.weight`, tensor] as const
          })
        }),
      ).flat(),
    )
    const parallel = { tp: 2, pp: 2 }
    const path = join(dir, 'adapters')
    const base = await run(hfToMegatron({ model: hfModel(join(dir, 'llama')), parallel: { tp: 4, pp: 1 } }), { store })
    const lora = { r: 2, alpha: 4, targets: loraTargets, base: base.path }
    await writeMegatronCheckpoint(path, {
      ...{ source: memorySource(zeros), architecture, parallel, layout: 'legacy', iteration: 30, lora },
    })
    const adapter = { kind: 'megatron-checkpoint', path, iteration: 30, ...parallel, layout: 'legacy' } as const
    const merged = await run(mergeLora({ base, adapter: { ...adapter, architecture } }), { store })
    expect(merged).toMatchObject({ iteration: 1, ...parallel, layout: 'legacy' })
    const straight = await run(hfToMegatron({ model: hfModel(join(dir, 'llama')), parallel }), { store })
    for (const rank of ['00_000', '00_001', '01_000', '01_001']) {
      const file = join('iter_0000001', `mp_rank_${rank}`, 'model_optim_rng.pt')
      expect(await readFile(join(merged.path, file))).toEqual(await readFile(join(straight.path, file)))
    }
  })
})
