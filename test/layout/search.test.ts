import { describe, expect, it } from 'vitest'
import { devices } from '../../src/layout/device-facts.ts'
import { explainLayout } from '../../src/layout/explain.ts'
import { layoutViolations } from '../../src/layout/legality.ts'
import { trainingMemory } from '../../src/layout/memory.ts'
import { type FoundLayout, searchLayouts } from '../../src/layout/search.ts'
import type { SearchOptions } from '../../src/layout/search-space.ts'
import type { TrainingShape } from '../../src/layout/training-shape.ts'
import { iterationTime } from '../../src/layout/training-time.ts'
import { findModel } from '../../src/models/supported-model.ts'

const of = (id: string) => findModel(id).architecture
const llama70b: SearchOptions = { model: of('llama2-70b'), seqLength: 4096, globalBatchSize: 128, devices: 64 }

describe('searchLayouts', () => {
  it('gives layouts that the rules allow, that fit, and that take the time that it says', () => {
    const { found } = searchLayouts(llama70b)
    expect(found.length).toBeGreaterThan(100)
    for (const layout of found) {
      const training = trainingOf(llama70b, layout)
      expect(violationsOf(training)).toEqual([])
      const memory = trainingMemory(training, devices.snt9b)
      expect(memory.fits).toBe(true)
      expect(memory.peak.bytes).toBe(layout.bytes)
      expect(iterationTime(training, devices.snt9b).seconds).toBe(layout.secondsPerIteration)
    }
  })

  it.each<readonly [string, SearchOptions]>([
    ['llama2-70b on 32', { ...llama70b, devices: 32 }],
    ['llama2-13b on 16', { model: of('llama2-13b'), seqLength: 4096, globalBatchSize: 32, devices: 16 }],
    ['yi-34b on 24', { model: of('yi-34b'), seqLength: 4096, globalBatchSize: 24, devices: 24 }],
    ['qwen2-7b on 8, LoRA', { model: of('qwen2-7b'), seqLength: 4096, globalBatchSize: 16, devices: 8, task: 'lora' }],
    [
      'llama2-7b on 8 of 32 GB',
      { model: of('llama2-7b'), seqLength: 4096, globalBatchSize: 16, devices: 8, device: devices.snt9b32gb },
    ],
    [
      'glm4-9b on 8 with context parallelism',
      { model: of('glm4-9b'), seqLength: 8192, globalBatchSize: 16, devices: 8, flags: { useMcoreModels: true } },
    ],
  ])(
    'is never beaten by trying everything: %s',
    (_name, options) => {
      const { found } = searchLayouts(options)
      const all = everything(options)
      expect(all.length).toBeGreaterThan(0)
      expect(found[0]?.secondsPerIteration).toBe(Math.min(...all.map(({ seconds }) => seconds)))
      for (const count of new Set(all.map(({ training }) => training.layout.worldSize))) {
        const seconds = all.filter(({ training }) => training.layout.worldSize === count).map(one => one.seconds)
        const best = found.find(layout => layout.devices === count)
        expect(best?.secondsPerIteration, `${count} devices`).toBe(Math.min(...seconds))
      }
    },
    60_000,
  )

  it('ranks by time, and keeps of all layouts those that no other beats in devices, time and price', () => {
    const { found, pareto } = searchLayouts({ ...llama70b, iterations: 1000, pricePerDeviceHour: 2 })
    const beats = (a: FoundLayout, b: FoundLayout) =>
      a.devices <= b.devices &&
      a.hours <= b.hours &&
      a.price! <= b.price! &&
      (a.devices < b.devices || a.hours < b.hours || a.price! < b.price!)
    for (const [index, layout] of found.slice(1).entries())
      expect(layout.secondsPerIteration).toBeGreaterThanOrEqual(found[index]!.secondsPerIteration)
    for (const layout of pareto) expect(found.some(other => beats(other, layout))).toBe(false)
    const beaten = found.filter(layout => !pareto.includes(layout))
    for (const layout of beaten) {
      const same = (other: FoundLayout) => other.devices === layout.devices && other.hours === layout.hours
      expect(pareto.some(other => beats(other, layout) || same(other))).toBe(true)
    }
    const [best] = found
    expect(best!.hours).toBeCloseTo((best!.secondsPerIteration * 1000) / 3600, 9)
    expect(best!.price).toBeCloseTo(best!.hours * best!.devices * 2, 9)
  })

  it('recomputes no more layers than it must', () => {
    const options = {
      ...llama70b,
      seqLength: 8192,
      model: { ...of('llama2-70b'), maxPositionEmbeddings: 8192 },
      devices: 32,
    }
    const { found } = searchLayouts(options)
    const recomputing = found.filter(layout => layout.recompute === 'full')
    expect(recomputing.length).toBeGreaterThan(0)
    for (const layout of recomputing) {
      const fewer = { ...trainingOf(options, layout), recomputeNumLayers: layout.recomputeNumLayers! - 1 }
      const training = layout.recomputeNumLayers === 1 ? { ...fewer, recompute: 'none' as const } : fewer
      expect(trainingMemory(training, devices.snt9b).fits).toBe(false)
    }
  })

  it('shares layers that pp does not divide, the longer stages next to the last, and counts the longest', () => {
    const options = { model: of('qwen2-7b'), seqLength: 4096, globalBatchSize: 16, devices: 8 }
    const { found } = searchLayouts({ ...options, space: { deviceCounts: [8], pp: [8] } })
    expect(found.length).toBeGreaterThan(0)
    for (const { layersPerStage, layersPerVirtualStage } of found)
      expect([layersPerStage, layersPerVirtualStage]).toEqual([[3, 3, 3, 4, 4, 4, 4, 3], undefined])
    const [first] = found
    const { stages, peak } = trainingMemory(trainingOf(options, first!), devices.snt9b)
    expect(stages.map(({ stage }) => stage)).toEqual([0, 3, 7])
    expect(peak.bytes).toBe(first?.bytes)
  })

  it('counts what it leaves out', () => {
    const { candidates, illegal, tooLarge, found } = searchLayouts(llama70b)
    expect(illegal + tooLarge + found.length).toBe(candidates)
  })

  it('takes tp beyond the query groups only where they are copied', () => {
    const options: SearchOptions = {
      model: of('glm3-6b'),
      seqLength: 4096,
      globalBatchSize: 32,
      devices: 4,
      space: { tp: [4] },
    }
    expect(searchLayouts(options).found).toEqual([])
    expect(searchLayouts({ ...options, flags: { replicateQueryGroups: true } }).found.length).toBeGreaterThan(0)
  })

  it('refuses numbers that are no counts', () => {
    expect(() => searchLayouts({ ...llama70b, devices: 0 })).toThrow('devices is 0; it must be a whole number from 1.')
  })
})

describe('explainLayout', () => {
  it.each([
    [{ tp: 3 }, 'illegal', "tp 3 does not divide the model's 64 attention heads. tp 2 or 4 would do."],
    [{ tp: 16 }, 'illegal', "tp 16 does not divide the model's 8 query groups. tp 8 would do."],
    [
      { devices: 12 },
      'illegal',
      'globalBatchSize 128 is not divisible by microBatchSize 1 × dp 12 = 12. globalBatchSize 120 or 132 would do.',
    ],
    [{ devices: 8 }, 'too-large', /^devices 8 lacks \d+\.\d GiB a device, even with 8 devices, tp 8/],
    [{ tp: 1, devices: 16 }, 'too-large', /^tp 1, devices 16 lacks \d+\.\d GiB a device/],
    [{ devices: 32 }, 'slower', /^devices 32 takes \d+\.\d\d s an iteration \(32 devices, .*\), \d+\.\d % more than/],
    [{ microBatchSize: 16 }, 'slower', /% more than/],
    [{ devices: 64 }, 'best', /^devices 64 is the fastest/],
  ] as const)('%j: %s', (wanted, verdict, message) => {
    const answer = explainLayout(llama70b, wanted)
    expect(answer.message).toMatch(message)
    expect(answer.verdict).toBe(verdict)
  })

  it('names the number that rules a layout out', () => {
    const slower = explainLayout(llama70b, { devices: 32 })
    const [best] = searchLayouts(llama70b).found
    if (slower.verdict !== 'slower') throw new Error(slower.verdict)
    expect(slower.slowerBy).toBeCloseTo(slower.layout.secondsPerIteration / best!.secondsPerIteration - 1, 12)
    const large = explainLayout(llama70b, { devices: 8 })
    if (large.verdict !== 'too-large') throw new Error(large.verdict)
    // Weights, gradients and optimizer are 18 bytes a parameter.
    expect(large.overBytes).toBeGreaterThan((18 * 68976648192) / 8 - devices.snt9b.usableBytes)
  })
})

const violationsOf = ({ layout, model, ...rest }: TrainingShape) => {
  const { microBatchSize, globalBatchSize, seqLength, sequenceParallel, distributedOptimizer } = rest
  const flags = { bf16: true, sequenceParallel, useDistributedOptimizer: distributedOptimizer }
  return layoutViolations({ model, layout, batch: { microBatchSize, globalBatchSize, seqLength }, flags })
}

function trainingOf(options: SearchOptions, layout: FoundLayout): TrainingShape {
  const { tp, pp, cp, devices: worldSize, layersPerStage, layersPerVirtualStage, ...rest } = layout
  return {
    model: options.model,
    layout: { tp, pp, cp, worldSize, layersPerStage, layersPerVirtualStage },
    ...rest,
    seqLength: options.seqLength,
    globalBatchSize: options.globalBatchSize,
    task: options.task,
  }
}

/** Every layout that is legal and fits, tried one by one through the public functions. */
function everything(options: SearchOptions): readonly { readonly training: TrainingShape; readonly seconds: number }[] {
  const { model, seqLength, globalBatchSize, task, device = devices.snt9b, flags } = options
  const found: { training: TrainingShape; seconds: number }[] = []
  const counts = [1, 2, 4, ...Array.from({ length: options.devices / 8 }, (_, index) => 8 * (index + 1))]
  for (const worldSize of counts)
    for (const tp of [1, 2, 4, 8])
      for (const cp of flags?.useMcoreModels ? [1, 2, 4, 8] : [1])
        for (let pp = 1; pp <= worldSize; pp++)
          for (const virtual of [
            undefined,
            ...Array.from({ length: model.numLayers / pp - 1 }, (_, index) => index + 1),
          ])
            for (const microBatchSize of [1, 2, 4, 8, 16]) {
              if (worldSize % (tp * cp * pp) !== 0) continue
              const uneven = model.numLayers % pp !== 0
              if (uneven && (virtual !== undefined || pp > model.numLayers || !Number.isInteger(Math.log2(pp))))
                continue
              const layersPerStage = uneven ? sharesOf(model.numLayers, pp) : undefined
              for (const distributedOptimizer of worldSize > tp * pp ? [false, true] : [false])
                for (let twice = 0; twice <= (virtual ?? Math.ceil(model.numLayers / pp)); twice++) {
                  const training: TrainingShape = {
                    ...{ model, task },
                    layout: { tp, pp, cp, worldSize, layersPerStage, layersPerVirtualStage: virtual },
                    ...{ seqLength, globalBatchSize, microBatchSize, distributedOptimizer, sequenceParallel: tp > 1 },
                    recompute: twice === 0 ? 'none' : 'full',
                    recomputeNumLayers: twice === 0 ? undefined : twice,
                  }
                  if (twice === 0 && !legal(training, flags)) break
                  if (trainingMemory(training, device).fits)
                    found.push({ training, seconds: iterationTime(training, device).seconds })
                }
            }
  return found
}

/** Equal shares; what is left over goes to the stages before the last, one layer each. */
function sharesOf(numLayers: number, pp: number): readonly number[] {
  const shares = Array.from({ length: pp }, () => Math.floor(numLayers / pp))
  for (let left = numLayers % pp, stage = pp - 2; left > 0; left--, stage--) shares[stage]! += 1
  return shares
}

function legal({ model, layout, ...rest }: TrainingShape, more: SearchOptions['flags']): boolean {
  const { seqLength, globalBatchSize, microBatchSize, distributedOptimizer, sequenceParallel } = rest
  const flags = { ...more, bf16: true, sequenceParallel, useDistributedOptimizer: distributedOptimizer }
  return layoutViolations({ model, layout, batch: { microBatchSize, globalBatchSize, seqLength }, flags }).length === 0
}
