import { describe, expect, test } from 'vitest'
import { createEngine, type Engine } from '../../src/trainer/engine.ts'
import type { EngineOptions } from '../../src/trainer/engine-options.ts'
import { estimateTrainerMemory, requireMemory } from '../../src/trainer/memory-estimate.ts'
import { fillParameters } from './reference-run.ts'

const architecture = {
  ...{ family: 'llama', numLayers: 1, hiddenSize: 12, ffnHiddenSize: 20, vocabSize: 30 },
  ...{ numAttentionHeads: 4, numQueryGroups: 2, kvChannels: 6, maxPositionEmbeddings: 64 },
  ...{ normEpsilon: 1e-5, rotaryBase: 10_000, tiedEmbeddings: false, addQkvBias: false },
}
const options: EngineOptions = { architecture, seqLength: 5, microBatchSize: 2, threads: 2 }
const tokens = Int32Array.from({ length: 10 }, (_, i) => i * 2)
const labels = Int32Array.from({ length: 10 }, (_, i) => (i < 4 ? -100 : i + 3))
const update = {
  ...{ learningRate: 1e-2, step: 1, beta1: 0.9, beta2: 0.95 },
  ...{ epsilon: 1e-8, weightDecay: 0.1, clipGrad: 1 },
}

async function withEngine(changes: Partial<EngineOptions>, use: (engine: Engine) => Promise<void>): Promise<void> {
  const engine = await createEngine({ ...options, ...changes })
  fillParameters(engine.parameters)
  await use(engine).finally(engine.close)
}

describe('parameters', () => {
  test("have Hugging Face's names and shapes", () =>
    withEngine({ architecture: { ...architecture, addQkvBias: true } }, async ({ parameters }) => {
      expect(parameters.map(({ name, shape }) => [name, ...shape])).toEqual([
        ['model.embed_tokens.weight', 30, 12],
        ['model.layers.0.input_layernorm.weight', 12],
        ['model.layers.0.self_attn.q_proj.weight', 24, 12],
        ['model.layers.0.self_attn.k_proj.weight', 12, 12],
        ['model.layers.0.self_attn.v_proj.weight', 12, 12],
        ['model.layers.0.self_attn.q_proj.bias', 24],
        ['model.layers.0.self_attn.k_proj.bias', 12],
        ['model.layers.0.self_attn.v_proj.bias', 12],
        ['model.layers.0.self_attn.o_proj.weight', 12, 24],
        ['model.layers.0.post_attention_layernorm.weight', 12],
        ['model.layers.0.mlp.gate_proj.weight', 20, 12],
        ['model.layers.0.mlp.up_proj.weight', 20, 12],
        ['model.layers.0.mlp.down_proj.weight', 12, 20],
        ['model.norm.weight', 12],
        ['lm_head.weight', 30, 12],
      ])
      expect(parameters.filter(({ decay }) => !decay).every(({ shape }) => shape.length === 1)).toBe(true)
    }))

  test('do not overlap', () =>
    withEngine({ lora: { r: 3, alpha: 6, targets: ['linear_qkv', 'linear_fc2'] } }, async ({ parameters }) => {
      const views = parameters.flatMap(({ weight, gradient, firstMoment, secondMoment }) =>
        [weight, gradient, firstMoment, secondMoment].filter(view => view !== undefined),
      )
      views.sort((a, b) => a.byteOffset - b.byteOffset)
      for (const [i, view] of views.slice(1).entries()) {
        expect(view.byteOffset).toBeGreaterThanOrEqual(views[i]!.byteOffset + views[i]!.byteLength)
      }
    }))

  test('are frozen under LoRA, except the adapters', () =>
    withEngine({ lora: { r: 3, alpha: 6, targets: ['linear_qkv', 'linear_fc2'] } }, async engine => {
      const trained = engine.parameters.filter(({ trainable }) => trainable)
      expect(trained.map(({ name, shape }) => [name, ...shape])).toEqual([
        ['layers.0.linear_qkv.lora_A.weight', 3, 12],
        ['layers.0.linear_qkv.lora_B.weight', 48, 3],
        ['layers.0.linear_fc2.lora_A.weight', 3, 20],
        ['layers.0.linear_fc2.lora_B.weight', 12, 3],
      ])
      const before = engine.parameters.map(({ weight }) => weight.slice())
      await engine.accumulate(tokens, labels)
      await engine.update(update)
      for (const [i, { trainable, gradient, weight }] of engine.parameters.entries()) {
        expect(gradient !== undefined).toBe(trainable)
        if (trainable) expect(weight).not.toEqual(before[i])
        else expect(weight).toEqual(before[i])
      }
    }))
})

describe('losses', () => {
  test('are a mean over counted labels when training and a sum when evaluating', () =>
    withEngine({}, async engine => {
      const trained = await engine.accumulate(tokens, labels)
      const evaluated = await engine.evaluate(tokens, labels)
      expect(trained.count).toBe(6)
      expect(evaluated).toEqual({ loss: expect.closeTo(trained.loss * 6, 10), count: 6 })
    }))

  test('without a counted label are 0 and change nothing', () =>
    withEngine({}, async engine => {
      const none = new Int32Array(10).fill(-100)
      expect(await engine.accumulate(tokens, none)).toEqual({ loss: 0, count: 0 })
      expect(await engine.evaluate(tokens, none)).toEqual({ loss: 0, count: 0 })
      expect(engine.parameters.every(({ gradient }) => gradient!.every(x => x === 0))).toBe(true)
    }))

  test('are those of a causal model: later tokens do not change earlier losses', () =>
    withEngine({}, async engine => {
      const first = new Int32Array(10).fill(-100)
      first[1] = 3
      const { loss } = await engine.evaluate(tokens, first)
      const changed = tokens.map((id, i) => (i > 1 ? (id + 5) % 30 : id))
      expect((await engine.evaluate(changed, first)).loss).toBe(loss)
    }))
})

describe('updates', () => {
  test('with a norm that is not finite are skipped: weights and moments stay, gradients are zeroed', () =>
    withEngine({}, async engine => {
      const head = engine.parameters.at(-1)!
      head.gradient![7] = Number.NaN
      const before = engine.parameters.map(({ weight }) => weight.slice())
      expect(await engine.update(update)).toEqual({ gradNorm: Number.NaN, skipped: true })
      for (const [i, { weight, gradient, firstMoment }] of engine.parameters.entries()) {
        expect(weight).toEqual(before[i])
        expect(gradient!.every(x => x === 0)).toBe(true)
        expect(firstMoment!.every(x => x === 0)).toBe(true)
      }
    }))

  test('report the norm before clipping, over all gradients', () =>
    withEngine({}, async engine => {
      engine.parameters[0]!.gradient![3] = 3
      engine.parameters.at(-2)!.gradient![11] = 4
      expect(await engine.update(update)).toEqual({ gradNorm: 5, skipped: false })
      // Clipped to norm 1: 3 becomes 0.6, and a moment takes a tenth of it.
      expect(engine.parameters[0]!.firstMoment![3]).toBeCloseTo(0.06, 6)
    }))
})

describe('refusals', () => {
  const cases: readonly [string, Partial<EngineOptions>][] = [
    ['family chatglm3', { architecture: { ...architecture, family: 'chatglm3' } }],
    ['microBatchSize is 0', { microBatchSize: 0 }],
    ['seqLength is 2.5', { seqLength: 2.5 }],
    ['threads is -1', { threads: -1 }],
    ['numQueryGroups 3', { architecture: { ...architecture, numQueryGroups: 3 } }],
    ['kvChannels is 5', { architecture: { ...architecture, kvChannels: 5 } }],
    ['lora.r is 0', { lora: { r: 0, alpha: 1, targets: ['linear_qkv'] } }],
    ['twice', { lora: { r: 1, alpha: 1, targets: ['linear_qkv', 'linear_qkv'] } }],
    ['4 GiB', { architecture: { ...architecture, hiddenSize: 8192, ffnHiddenSize: 28672, numLayers: 80 } }],
  ]
  test.each(cases)('of options name what is wrong: %s', async (message, changes) => {
    await expect(createEngine({ ...options, ...changes })).rejects.toThrow(message)
  })

  test('of updates leave the weights as they are', () =>
    withEngine({}, async engine => {
      const before = engine.parameters[0]!.weight.slice()
      await expect(engine.update({ ...update, step: 0 })).rejects.toThrow('step is 0')
      await expect(engine.update({ ...update, learningRate: Number.NaN })).rejects.toThrow('learningRate is NaN')
      expect(engine.parameters[0]!.weight).toEqual(before)
    }))

  test('of batches name the place', () =>
    withEngine({}, async engine => {
      await expect(engine.evaluate(tokens.slice(1), labels)).rejects.toThrow('tokens has 9 ids')
      await expect(engine.evaluate(tokens.with(4, 30), labels)).rejects.toThrow('tokens[4] is 30')
      await expect(engine.evaluate(tokens.with(4, -100), labels)).rejects.toThrow('tokens[4] is -100')
      await expect(engine.evaluate(tokens, labels.with(9, -1))).rejects.toThrow('labels[9] is -1')
      await expect(engine.accumulate(tokens, labels, { scale: 0 })).rejects.toThrow('scale is 0')
    }))
})

describe('the memory estimate', () => {
  test('is what an engine takes', () =>
    withEngine({}, async engine => {
      const { bytes } = estimateTrainerMemory(options)
      expect(engine.memoryBytes).toBe(Math.ceil(bytes / 65_536) * 65_536)
    }))

  test('names its parts, which add up', () => {
    const { bytes, parts } = estimateTrainerMemory(options)
    expect(Object.values(parts).reduce((a, b) => a + b)).toBe(bytes)
    const lora = estimateTrainerMemory({ ...options, lora: { r: 4, alpha: 8, targets: ['linear_qkv'] } })
    expect(lora.parts.training).toBeLessThan(parts.training)
  })

  test('refuses what the machine has not, with both numbers and a way out', () => {
    const estimate = estimateTrainerMemory({ ...options, microBatchSize: 4096 })
    expect(() => requireMemory(estimate, 8 * 2 ** 20)).toThrow(/needs \d+ MiB .* has 8 MiB left.*microBatchSize/)
  })
})
