import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hfModel, hfToMegatron, megatronToHf, megatronToPeft, peftAdapter, peftToMegatron, run } from 'ascendflow'
import { openSafetensors } from 'ascendflow/formats'
import { beforeAll, describe, expect, it } from 'vitest'
import { openPeftAdapter } from '../../src/checkpoint/open-peft.ts'
import { floatValues } from '../../src/formats/float-dtype.ts'
import { familyConfig, familyModels, familyWeights } from '../checkpoint/fixtures/families.ts'
import { readAll, safetensorsBytes, sorted, type Weights } from '../checkpoint/fixtures/tiny-model.ts'
import { newFolder } from '../engine/steps.ts'

let dir: string
const r = 2
const alpha = 6
const config = { peft_type: 'LORA', r, lora_alpha: alpha, bias: 'none', use_dora: false, rank_pattern: {} }

/** Whole numbers, so that sums are exact in any order. */
function tensor(shape: readonly number[], seed: number): { dtype: 'F32'; shape: readonly number[]; bytes: Uint8Array } {
  const count = shape.reduce((a, b) => a * b, 1)
  const values = Float32Array.from({ length: count }, (_, i) => ((i * 7 + seed * 13) % 11) - 5)
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }
}

const linear = /layers\.\d+\.(self_attn|mlp|self_attention)\..*\.weight$|\.h\.\d+\.(attn|mlp)\..*\.weight$/

/** Adapters of every linear layer that `takes` likes, each with matrices of its own. */
function adaptersOf(weights: Weights, takes: (name: string) => boolean): Weights {
  return new Map(
    [...weights].flatMap(([name, { shape }], i) => {
      if (shape.length !== 2 || !linear.test(name) || !takes(name)) return []
      const module = `base_model.model.${name.slice(0, -'.weight'.length)}`
      return [
        [`${module}.lora_A.weight`, tensor([r, shape[1]!], 3 * i)] as const,
        [`${module}.lora_B.weight`, tensor([shape[0]!, r], 3 * i + 1)] as const,
      ]
    }),
  )
}

/** W + alpha / r · B·A, tensor by tensor as PEFT has them. */
function mergedByHand(weights: Weights, adapters: Weights): Weights {
  return new Map(
    [...weights].map(([name, { dtype, shape, bytes }]) => {
      const module = `base_model.model.${name.slice(0, -'.weight'.length)}`
      const [a, b] = ['A', 'B'].map(it => adapters.get(`${module}.lora_${it}.weight`))
      if (a === undefined || b === undefined) return [name, { dtype, shape, bytes }]
      const [av, bv] = [floatValues(a.bytes, 'F32'), floatValues(b.bytes, 'F32')]
      const width = shape[1]!
      const values = floatValues(bytes, 'F32').map((value, i) => {
        const [row, column] = [Math.floor(i / width), i % width]
        let sum = 0
        for (let k = 0; k < r; k++) sum += bv[row * r + k]! * av[k * width + column]!
        return value + (alpha / r) * sum
      })
      return [name, { dtype, shape, bytes: new Uint8Array(values.buffer) }]
    }),
  )
}

async function writeModel(family: string): Promise<Weights> {
  const model = familyModels[family]!
  const weights = new Map([...familyWeights(model, 'F32')].map(([name, { shape }], i) => [name, tensor(shape, i)]))
  await mkdir(join(dir, family), { recursive: true })
  await writeFile(join(dir, family, 'config.json'), JSON.stringify(familyConfig(model, 'F32')))
  await writeFile(join(dir, family, 'model.safetensors'), safetensorsBytes(weights))
  return weights
}

async function writeAdapter(name: string, weights: Weights, fields: object = {}): Promise<string> {
  const path = join(dir, name)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'adapter_config.json'), JSON.stringify({ ...config, ...fields }))
  await writeFile(join(path, 'adapter_model.safetensors'), safetensorsBytes(weights))
  return path
}

beforeAll(async () => {
  dir = await newFolder()
})

const choices: Readonly<Record<string, (name: string) => boolean>> = {
  all: () => true,
  'q and v alone': name => /[qv]_proj|W_pack|c_attn|query_key_value/.test(name),
  'up and o, of the second layer': name => /(layers|h)\.1\..*(up_proj|o_proj|w1|attn\.c_proj|dense_h_to_4h)/.test(name),
}

describe('peftToMegatron', () => {
  it.each(Object.keys(familyModels).flatMap(family => Object.keys(choices).map(choice => [family, choice] as const)))(
    'gives a %s the same products from adapters of %s',
    async (family, choice) => {
      const weights = await writeModel(family)
      const adapters = adaptersOf(weights, choices[choice]!)
      if (adapters.size === 0) return
      const model = hfModel(join(dir, family))
      const base = hfToMegatron({ model, parallel: { tp: 2, pp: 2 }, layout: 'mcore' })
      const adapter = peftAdapter(await writeAdapter(`${family} ${choice}`, adapters))
      const trained = peftToMegatron({ adapter, base, parallel: { tp: 4, pp: 1 } })
      const out = await run(megatronToHf({ checkpoint: trained, like: model }), { store: join(dir, 'store') })
      const hf = await openSafetensors(join(out.path, 'model.safetensors'))
      expect(sorted(await readAll(hf))).toEqual(sorted(mergedByHand(weights, adapters)))
      await hf.close()
    },
  )

  it.each([
    { peft_type: 'IA3' },
    { use_dora: true },
    { use_rslora: true },
    { bias: 'all' },
    { rank_pattern: { q_proj: 4 } },
    { modules_to_save: ['lm_head'] },
    { init_lora_weights: 'pissa' },
    { something_new: 'of another version' },
  ])('refuses adapters of which %j', async fields => {
    const weights = await writeModel('llama')
    const path = await writeAdapter(`refused ${JSON.stringify(fields)}`, adaptersOf(weights, choices.all!), fields)
    const [field] = Object.keys(fields)
    await expect(openPeftAdapter(path, familyModels.llama!)).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringContaining(`${field} is `),
    })
  })

  it('refuses tensors that no layer takes, that are missing, or of another shape', async () => {
    const weights = await writeModel('llama')
    const good = adaptersOf(weights, choices.all!)
    const q = 'base_model.model.model.layers.0.self_attn.q_proj.lora_'
    const cases: [string, Weights, RegExp][] = [
      ['no layer', new Map([...good, ['base_model.model.lm_head.lora_A.weight', tensor([2, 16], 1)]]), /lm_head/],
      ['no B', new Map([...good].filter(([name]) => name !== `${q}B.weight`)), /q_proj.lora_B.weight' of shape/],
      ['shape', new Map([...good, [`${q}A.weight`, tensor([3, 16], 1)]]), /q_proj.lora_A.weight' of shape \[2,16\]/],
      ['none', new Map(), /expected adapters, found none/],
    ]
    for (const [name, tensors, message] of cases)
      await expect(openPeftAdapter(await writeAdapter(`bad ${name}`, tensors), familyModels.llama!)).rejects.toThrow(
        message,
      )
  })
})

describe('megatronToPeft', () => {
  it.each(Object.keys(familyModels))('gives back what a %s was trained with', async family => {
    const weights = await writeModel(family)
    const adapters = adaptersOf(weights, () => true)
    const model = hfModel(join(dir, family))
    const base = hfToMegatron({ model, layout: 'mcore' })
    const adapter = peftAdapter(await writeAdapter(`${family} out`, adapters))
    const trained = peftToMegatron({ adapter, base, parallel: { tp: 2, pp: 2 } })
    const out = megatronToPeft({ checkpoint: trained, like: model })
    const again = peftToMegatron({ adapter: out, base, parallel: { tp: 2, pp: 2 } }, { name: 'again' })
    const hf = megatronToHf({ checkpoint: again, like: model })
    const paths = await run({ out, hf }, { store: join(dir, 'store') })
    const merged = await openSafetensors(join(paths.hf.path, 'model.safetensors'))
    expect(sorted(await readAll(merged))).toEqual(sorted(mergedByHand(weights, adapters)))
    await merged.close()
    // The parts of a fused layer share an A now: the rank does not grow again.
    const architecture = familyModels[family]!
    const [first, second] = [
      await openPeftAdapter(adapter.path, architecture),
      await openPeftAdapter(paths.out.path, architecture),
    ]
    expect(second.lora).toEqual(first.lora)
    expect(sorted(await readAll(second))).toEqual(sorted(await readAll(first)))
    for (const source of [first, second]) await source.close()
  })
})
