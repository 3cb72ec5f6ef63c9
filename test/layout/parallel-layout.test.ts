import { parallelLayout } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { checkModelLayout } from '../../src/layout/parallel-layout.ts'

describe('parallelLayout', () => {
  it('derives the data parallel size', () => {
    expect(parallelLayout({ worldSize: 32, tp: 4, pp: 2 })).toEqual({ tp: 4, pp: 2, cp: 1, dp: 4, worldSize: 32 })
  })

  it.each([
    [
      { worldSize: 16, tp: 4, pp: 3 },
      'tp 4 × pp 3 × cp 1 = 12 does not divide 16 devices. pp 2 or 4, or worldSize 12 or 24 would do.',
    ],
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
    [{ tp: 64 }, "tp 64 does not divide the model's 32 attention heads. tp 32 would do."],
    [{ tp: 3 }, "tp 3 does not divide the model's 32 attention heads. tp 2 or 4 would do."],
    [{ tp: 1, pp: 8 }, "pp 8 does not divide the model's 28 layers. pp 7 or 14 would do."],
    [{ pp: 8, layersPerStage: [3, 4, 4, 4, 4, 4, 4, 1] }, undefined],
    [{ pp: 4, layersPerVirtualStage: 7 }, undefined],
  ])('of glm3-6b at %j: %s', (parallel, message) => {
    const check = () => checkModelLayout(glm3, parallel)
    if (message) expect(check).toThrow(expect.objectContaining({ code: 'invalid-layout', message }))
    else expect(check).not.toThrow()
  })
})
