import { expect, test } from 'vitest'
import { mergeLora } from '../../src/checkpoint/lora-merge.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { adapterName } from '../../src/models/lora-rules.ts'
import { asFamily, familyModels, familyWeights, llamaWeights } from './fixtures/families.ts'
import { memorySource, readAll, sorted, type Weights } from './fixtures/tiny-model.ts'

const lora = { r: 2, alpha: 6, targets: ['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2'], base: '' } as const

function adaptersOf(model: Architecture): Weights {
  const { hiddenSize, ffnHiddenSize, numAttentionHeads, numQueryGroups, kvChannels } = model
  const heads = numAttentionHeads * kvChannels
  const sizes = {
    linear_qkv: [heads + 2 * numQueryGroups * kvChannels, hiddenSize],
    linear_proj: [hiddenSize, heads],
    linear_fc1: [2 * ffnHiddenSize, hiddenSize],
    linear_fc2: [hiddenSize, ffnHiddenSize],
  } as const
  const matrix = (shape: readonly number[], seed: number) => ({
    dtype: 'BF16' as const,
    shape,
    bytes: Uint8Array.from({ length: 2 * shape[0]! * shape[1]! }, (_, i) => (i % 2 ? 0x3d : (i * 37 + seed) % 256)),
  })
  return new Map(
    Array.from({ length: model.numLayers }, (_, layer) =>
      lora.targets.flatMap(target => [
        [adapterName(layer, target, 'A'), matrix([lora.r, sizes[target][1]], layer)] as const,
        [adapterName(layer, target, 'B'), matrix([sizes[target][0], lora.r], layer + 100)] as const,
      ]),
    ).flat(),
  )
}

// The merge of Llama's weights is checked against float64 in lora.test.ts.
test.each(Object.entries(familyModels))(
  "adapters merge into the fused weights of %s as into Llama's",
  async (_, model) => {
    const adapters = memorySource(adaptersOf(model))
    const merge = async (architecture: Architecture, weights: Weights) =>
      readAll(mergeLora({ adapters, base: memorySource(weights), architecture, lora }))
    const likeLlama = { ...model, family: model.qkNorm ? 'qwen3' : model.addQkvBias ? 'qwen2' : 'llama' }
    const expected = asFamily(model, await merge(likeLlama, llamaWeights(model)))
    expect(sorted(await merge(model, familyWeights(model)))).toEqual(sorted(expected))
    expect(sorted(expected)).not.toEqual(sorted(familyWeights(model)))
  },
)
