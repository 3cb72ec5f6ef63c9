import { describe, expect, it } from 'vitest'
import { devices } from '../../src/layout/device-facts.ts'
import { isLegal } from '../../src/layout/legality.ts'
import { trainingMemory } from '../../src/layout/memory.ts'
import { nearestLayout } from '../../src/layout/nearest-layout.ts'
import type { TrainingShape } from '../../src/layout/training-shape.ts'
import { findModel } from '../../src/models/supported-model.ts'

const model = findModel('llama2-70b').architecture
const batch = { seqLength: 4096, globalBatchSize: 64 }
const { snt9b: device } = devices
const at = (tp: number, pp: number, worldSize: number, microBatchSize = 1): TrainingShape => {
  return { model, layout: { tp, pp, worldSize }, ...batch, microBatchSize }
}
const doublings = (a: number, b: number) => Math.abs(Math.log2(a / b))

describe('nearestLayout', () => {
  it('changes tp and pp by no more doublings than it must, on the same devices', () => {
    for (const [tp, pp] of [
      [8, 1],
      [8, 2],
      [1, 8],
      [2, 2],
    ] as const) {
      expect(trainingMemory(at(tp, pp, 64), device).fits).toBe(false)
      const distances: number[] = []
      for (const otherTp of [1, 2, 4, 8])
        for (const otherPp of [1, 2, 4, 8, 16]) {
          const training = at(otherTp, otherPp, 64)
          if (otherTp * otherPp > 64 || !isLegal({ model, layout: training.layout, batch, flags: { bf16: true } }))
            continue
          if (trainingMemory(training, device).fits) distances.push(doublings(otherTp, tp) + doublings(otherPp, pp))
        }
      const nearest = nearestLayout(at(tp, pp, 64), { device })
      expect(nearest?.devices).toBe(64)
      expect(nearest?.bytes).toBeLessThan(device.usableBytes)
      expect(doublings(nearest!.tp, tp) + doublings(nearest!.pp, pp)).toBe(Math.min(...distances))
    }
  })

  it('saves memory at the same sizes first where it may, and has other sizes where that is not enough', () => {
    const savings = nearestLayout(at(8, 2, 64), { device, savings: true })
    expect(savings).toMatchObject({ tp: 8, pp: 2, devices: 64, microBatchSize: 1 })
    expect(savings!.distributedOptimizer || savings!.recompute !== 'none').toBe(true)
    const { distributedOptimizer, recompute, recomputeNumLayers } = savings!
    const saved = { ...at(8, 2, 64), distributedOptimizer, recompute, recomputeNumLayers }
    expect(trainingMemory(saved, device).fits).toBe(true)
    expect(nearestLayout(at(1, 1, 64), { device, savings: true })).toEqual(nearestLayout(at(1, 1, 64), { device }))
  })

  it('takes a smaller micro batch where no tp and pp would do', () => {
    const nearest = nearestLayout(at(8, 4, 32, 4), { device })
    expect([nearest?.devices, nearest && nearest.microBatchSize < 4]).toEqual([32, true])
    expect(nearestLayout(at(8, 4, 32, 4), { device, mostDevices: 32 })).toEqual(nearest)
  })

  it('takes the fewest devices that do where those at hand cannot', () => {
    const nearest = nearestLayout(at(8, 1, 8), { device })
    expect(nearest?.devices).toBeGreaterThan(16)
    expect(nearestLayout(at(8, 1, 8), { device, mostDevices: nearest!.devices - 8 })).toBeUndefined()
  })

  it('finds nothing on devices that hold nothing', () => {
    expect(nearestLayout(at(8, 4, 32), { device: { ...device, usableBytes: 2 ** 30 } })).toBeUndefined()
  })
})
