import { parallelLayout, trainingIterations } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { checkModelLayout } from '../../src/layout/parallel-layout.ts'

describe('trainingIterations', () => {
  it.each([
    // The vendor's guide gives 10 here (1200 / 512 truncated before it is multiplied); exactly it is 11.7.
    [{ samples: 1200, globalBatchSize: 512, epochs: 5 }, 11],
    [{ samples: 512, globalBatchSize: 512 }, 1],
    [{ samples: 1023, globalBatchSize: 512 }, 1],
    [{ samples: 1000, globalBatchSize: 16, epochs: 0.5 }, 31],
    // 8 windows of 8 tokens need 65 tokens: the last label is one token further.
    [{ tokens: 64, seqLength: 8, globalBatchSize: 1 }, 7],
    [{ tokens: 65, seqLength: 8, globalBatchSize: 1 }, 8],
    // Epochs are concatenated before windows are cut: 130 tokens hold 16 windows, not 2 × 8.
    [{ tokens: 65, seqLength: 8, globalBatchSize: 1, epochs: 2 }, 16],
  ])('%j → %d', (options, iterations) => {
    expect(trainingIterations(options)).toBe(iterations)
  })

  it('refuses data that does not fill one global batch, with the largest that it fills', () => {
    expect(() => trainingIterations({ samples: 100, globalBatchSize: 512, epochs: 2 })).toThrow(
      '100 samples × 2 epochs = 200 samples do not fill one global batch of 512. Use a globalBatchSize of at most 200',
    )
  })
})

describe('parallelLayout', () => {
  it('derives the data parallel size', () => {
    expect(parallelLayout({ worldSize: 32, tp: 4, pp: 2 })).toEqual({ tp: 4, pp: 2, cp: 1, dp: 4, worldSize: 32 })
  })

  it.each([
    [{ worldSize: 16, tp: 4, pp: 3 }, 'tp 4 × pp 3 × cp 1 = 12 does not divide 16 devices. pp 2 or 4 would.'],
    [{ worldSize: 8, tp: 0 }, 'tp 0 is not a positive integer.'],
    [{ worldSize: 8, tp: 1.5 }, 'tp 1.5 is not a positive integer.'],
  ])('refuses %j', (options, message) => {
    expect(() => parallelLayout(options)).toThrow(expect.objectContaining({ code: 'invalid-layout', message }))
  })
})

describe('checkModelLayout', () => {
  const glm3 = { numLayers: 28, ffnHiddenSize: 13696, numAttentionHeads: 32, numQueryGroups: 2 }

  it.each([
    [{ tp: 2, pp: 4 }, undefined],
    [{ tp: 4 }, undefined],
    [{ tp: 64 }, "tp 64 does not divide the model's 32 attention heads. tp 32 would."],
    [{ tp: 3 }, "tp 3 does not divide the model's 32 attention heads. tp 2 or 4 would."],
    [{ tp: 1, pp: 8 }, "pp 8 does not divide the model's 28 layers. pp 7 or 14 would."],
    [{ pp: 8, layersPerStage: [3, 4, 4, 4, 4, 4, 4, 1] }, undefined],
    [{ pp: 4, layersPerVirtualStage: 7 }, undefined],
  ])('of glm3-6b at %j: %s', (parallel, message) => {
    const check = () => checkModelLayout(glm3, parallel)
    if (message) expect(check).toThrow(expect.objectContaining({ code: 'invalid-layout', message }))
    else expect(check).not.toThrow()
  })
})
