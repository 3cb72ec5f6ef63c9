import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hfModel, hfToMegatron, megatronToHf, plan, type Ref, run } from 'ascendflow'
import { beforeAll, describe, expect, it } from 'vitest'
import { familyConfig, familyModels, familyWeights } from '../checkpoint/fixtures/families.ts'
import { safetensorsBytes } from '../checkpoint/fixtures/tiny-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string

beforeAll(async () => {
  dir = await newFolder()
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

describe('hfToMegatron and megatronToHf', () => {
  it.each(Object.keys(familyModels))('take a %s there and back, with more ranks than groups', async family => {
    const model = hfModel(join(dir, family))
    const parallel = { tp: 4, pp: 3, layersPerStage: [1, 2, 1] }
    const checkpoint = hfToMegatron({ model, parallel, layout: 'mcore' })
    const out = await run({ checkpoint, hf: megatronToHf({ checkpoint, like: model }) }, { store: join(dir, 'store') })
    expect(out.checkpoint).toMatchObject({ ...parallel, layout: 'mcore', architecture: familyModels[family] })
    const again = hfToMegatron({
      model: hfModel(out.hf.path),
      parallel: { tp: 1, pp: 2 },
      layout: 'mcore',
    })
    const back = await run(megatronToHf({ checkpoint: again, like: model }), { store: join(dir, 'store') })
    for (const { path } of [out.hf, back])
      expect(await readFile(join(path, 'config.json'))).toEqual(await readFile(join(dir, family, 'config.json')))
    expect(await readFile(join(back.path, 'model.safetensors'))).toEqual(
      await readFile(join(out.hf.path, 'model.safetensors')),
    )
  })

  it('refuse, before anything runs, what cannot be', async () => {
    const model = hfModel(join(dir, 'qwen3'))
    expect(await refusal(hfToMegatron({ model }))).toBe(
      "unsupported | hfToMegatron: A qwen3 model has 'model.layers.{i}.self_attn.q_norm.weight', for which the legacy layout has no place. Use layout 'mcore'.",
    )
    expect(await refusal(hfToMegatron({ model: hfModel(join(dir, 'llama'), { id: 'llama2-7b' }) }))).toMatch(
      /^bad-format \| hfToMegatron: .*config\.json: expected numLayers 32, as llama2-7b has, found 4/,
    )
    const uneven = { pp: 2, layersPerStage: [3, 2] }
    expect(await refusal(hfToMegatron({ model, layout: 'mcore', parallel: uneven }))).toMatch(
      /^invalid-layout \| hfToMegatron: layersPerStage \[3,2\] adds up to 5, the model has 4 layers/,
    )
    expect(() => hfModel('somewhere', { id: 'llama2' })).toThrow("There is no model 'llama2'; there are llama2-7b, ")
  })

  it('say which families there are when a model is of none', async () => {
    await mkdir(join(dir, 'odd'))
    await writeFile(join(dir, 'odd', 'config.json'), '{"model_type":"mamba"}')
    expect(await refusal(hfToMegatron({ model: hfModel(join(dir, 'odd')) }))).toBe(
      "unsupported | hfToMegatron: Models of type 'mamba' are not supported; llama, mistral, qwen2, qwen3, qwen, chatglm, glm, baichuan are.",
    )
  })

  it('refuse to give a checkpoint the configuration of another model', async () => {
    const checkpoint = hfToMegatron({ model: hfModel(join(dir, 'llama')) })
    const hf = megatronToHf({ checkpoint, like: hfModel(join(dir, 'qwen2')) })
    await expect(run(hf, { store: join(dir, 'store') })).rejects.toThrow(
      /expected addQkvBias true, as the given architecture has, found false/,
    )
  })
})
