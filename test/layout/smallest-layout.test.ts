import { describe, expect, it } from 'vitest'
import { devices } from '../../src/layout/device-facts.ts'
import { layoutViolations } from '../../src/layout/legality.ts'
import { trainingMemory } from '../../src/layout/memory.ts'
import { smallestLayout } from '../../src/layout/smallest-layout.ts'
import { recommended } from '../../src/models/recommended.ts'
import { models } from '../../src/models/supported-model.ts'

const rows = models.flatMap(model => [4096, 8192].map(seqLength => ({ ...model, seqLength })))

describe('recommended', () => {
  it('has all 21 models, 16 as the guide prints them and five by the planner', () => {
    const sources = rows.map(({ id, seqLength }) => recommended(id, seqLength).source)
    expect(sources.filter(source => source === 'guide')).toHaveLength(32)
    expect(sources.filter(source => source === 'planner')).toHaveLength(10)
  })

  it.each(rows)('$id at $seqLength is what the planner finds, fits, and is legal', row => {
    const { id, architecture: model, seqLength, layout: checkpoint } = row
    const { source, ...sizes } = recommended(id, seqLength)
    // The guide trains glm3-6b, of 2 query groups, with tp 4; what is ours the stock toolchain takes.
    const useMcoreModels = checkpoint === 'mcore'
    const flags = { useMcoreModels, replicateQueryGroups: source === 'guide' }
    expect(smallestLayout({ model, seqLength, flags })).toEqual(sizes)
    const { tp, pp, nodes, devicesPerNode } = sizes
    expect(tp * pp).toBe(nodes * devicesPerNode)
    const layout = { tp, pp }
    const batch = { seqLength, globalBatchSize: 512 }
    expect(trainingMemory({ model, layout, ...batch }, devices.snt9b).fits).toBe(true)
    const stretched = { ...model, maxPositionEmbeddings: seqLength }
    expect(layoutViolations({ model: stretched, layout, batch, flags: { ...flags, bf16: true } })).toEqual([])
  })

  it('refuses other models and lengths', () => {
    expect(() => recommended('llama2-7b', 2048)).toThrow(
      'There is a recommendation for 4096 and 8192 tokens; seqLength is 2048.',
    )
    expect(() => recommended('gpt2', 4096)).toThrow("There is no model 'gpt2'")
  })
})

describe('smallestLayout', () => {
  it('says when nothing fits', () => {
    const { architecture: model } = models[2]!
    expect(() => smallestLayout({ model, seqLength: 2 ** 20 })).toThrow(
      'No layout on up to 512 devices fits sequences of 1048576 tokens on Ascend snt9b 64 GB devices. Use a smaller microBatchSize, recompute, or context parallelism.',
    )
  })
})
