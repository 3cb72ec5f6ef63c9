import { describe, expect, it } from 'vitest'
import { devices } from '../../src/layout/device-facts.ts'
import { checkpointInterval, trainingPrice } from '../../src/layout/price.ts'
import { type PublishedThroughput, publishedThroughputs } from '../../src/layout/published-throughput.ts'
import type { TrainingShape } from '../../src/layout/training-shape.ts'
import { defaultEfficiency, iterationFlops, iterationTime, learnEfficiency } from '../../src/layout/training-time.ts'
import { findModel } from '../../src/models/supported-model.ts'

const of = (id: string) => findModel(id).architecture

describe('iterationFlops', () => {
  // What Megatron-LM core_r0.6.0's num_floating_point_operations gives for the same arguments.
  it.each([
    ['llama2-7b', 4096, 512, 9.66470720815104e16],
    ['llama2-13b', 4096, 512, 1.828212959084544e17],
    ['llama2-70b', 4096, 1024, 1.8643319160569856e18],
    ['llama3-8b', 8192, 512, 2.4290410880827392e17],
    ['llama3-70b', 8192, 512, 2.0192838907362017e18],
    ['qwen1.5-32b', 8192, 64, 1.1671041050935294e17],
    ['qwen1.5-72b', 4096, 64, 1.2017881993917235e17],
    ['yi-34b', 4096, 1024, 9.425233575621427e17],
    ['qwen2-7b', 4096, 256, 4.965449486617805e16],
  ])('of %s, %d tokens × %d, are %d', (id, seqLength, globalBatchSize, flops) => {
    expect(iterationFlops(of(id), { seqLength, globalBatchSize }) / flops).toBeCloseTo(1, 12)
  })
})

describe('iterationTime', () => {
  it('gives tokens/s/p by the formula of the guide', () => {
    const training = { ...shapeOf(publishedThroughputs[1]!), globalBatchSize: 512 }
    const { seconds, tokensPerSecondPerDevice } = iterationTime(training, devices.snt9b)
    // global batch size · seq_length / (devices · elapsed time per iteration in ms) · 1000
    expect(tokensPerSecondPerDevice).toBeCloseTo(((512 * 4096) / (8 * (seconds * 1000))) * 1000, 6)
  })

  it('adds up to its parts', () => {
    for (const row of publishedThroughputs) {
      const time = iterationTime(shapeOf(row), devices.snt9b)
      const sum = time.compute + time.tensorParallel + time.bubble + time.dataParallel
      expect(sum / time.seconds).toBeCloseTo(1, 12)
      expect(time.modelFlopsUtilization).toBeLessThan(defaultEfficiency)
    }
  })

  it('has the bubble of 1F1B: stages less one, by micro batches, and by chunks with virtual stages', () => {
    // A model that is almost only its layers, on devices whose messages take no time.
    const model = { ...of('llama2-7b'), vocabSize: 1 }
    const instant = { ...devices.snt9b, nodeBandwidth: 1e30, networkBandwidth: 1e30 }
    const share = (pp: number, globalBatchSize: number, layersPerVirtualStage?: number) => {
      const layout = { tp: 1, pp, layersPerVirtualStage }
      const { bubble, compute } = iterationTime({ model, layout, seqLength: 4096, globalBatchSize }, instant)
      return bubble / compute
    }
    expect(share(1, 8)).toBe(0)
    expect(share(4, 8)).toBeCloseTo(3 / 8, 5)
    expect(share(8, 64)).toBeCloseTo(7 / 64, 5)
    expect(share(4, 8, 2)).toBeCloseTo(3 / 8 / 4, 5)
  })

  it('takes a third more with full recomputation, and a third less with LoRA', () => {
    // Without an output layer, which is not computed twice.
    const model = { ...of('llama2-7b'), vocabSize: 1 }
    const training: TrainingShape = { model, layout: { tp: 1, pp: 1 }, seqLength: 4096, globalBatchSize: 8 }
    const compute = (changed: Partial<TrainingShape>) =>
      iterationTime({ ...training, ...changed }, devices.snt9b).compute
    expect(compute({ recompute: 'full' }) / compute({})).toBeCloseTo(4 / 3, 4)
    expect(compute({ recompute: 'selective' })).toBeGreaterThan(compute({}))
    expect(compute({ task: 'lora' }) / compute({})).toBeCloseTo(2 / 3, 12)
  })

  it('refuses an efficiency that is no share', () => {
    for (const efficiency of [0, 1.1, Number.NaN])
      expect(() => iterationTime(shapeOf(publishedThroughputs[0]!), devices.snt9b, { efficiency })).toThrow(
        `efficiency is ${efficiency}; it must be above 0 and at most 1.`,
      )
  })
})

describe('efficiency', () => {
  const learned = publishedThroughputs.map(row =>
    learnEfficiency([row.tokensPerSecondPerDevice], { training: shapeOf(row), device: devices.snt9b }),
  )

  it('is by default the median over the published throughputs', () => {
    const median = [...learned].sort((a, b) => a - b)[learned.length >> 1]!
    expect(defaultEfficiency).toBeCloseTo(median, 2)
  })

  it('predicts every published throughput to a quarter by default, and exactly when learned from it', () => {
    for (const [index, row] of publishedThroughputs.entries()) {
      const { tokensPerSecondPerDevice: measured } = row
      const by = (efficiency?: number) =>
        iterationTime(shapeOf(row), devices.snt9b, { efficiency }).tokensPerSecondPerDevice
      expect(by() / measured, row.model).toBeGreaterThan(0.75)
      expect(by() / measured, row.model).toBeLessThan(1.25)
      expect(by(learned[index]) / measured, row.model).toBeCloseTo(1, 6)
    }
  })

  it('learned from one model predicts a larger one of its family', () => {
    const [small, large] = [publishedThroughputs[1]!, publishedThroughputs[2]!]
    expect([small.model, large.model]).toEqual(['llama2-13b', 'llama2-70b'])
    const efficiency = learnEfficiency([small.tokensPerSecondPerDevice], {
      training: shapeOf(small),
      device: devices.snt9b,
    })
    const { tokensPerSecondPerDevice } = iterationTime(shapeOf(large), devices.snt9b, { efficiency })
    expect(tokensPerSecondPerDevice / large.tokensPerSecondPerDevice).toBeCloseTo(1, 1)
  })

  it('is learned from the median of several runs, and from none that cannot be', () => {
    const training = shapeOf(publishedThroughputs[0]!)
    const learn = (measured: readonly number[]) => learnEfficiency(measured, { training, device: devices.snt9b })
    expect(learn([4200, 1, 4300])).toBe(learn([4200]))
    expect(() => learn([])).toThrow('Efficiency needs at least one measured throughput above 0.')
    expect(() => learn([9000])).toThrow(
      /^9000 tokens\/s\/p is 14\.564 s an iteration; at its peak .* needs 2\d\.\d+ s\.$/,
    )
  })
})

describe('trainingPrice', () => {
  const training = { iterations: 1000, secondsPerIteration: 36, devices: 64 }

  it('is hours by devices by price', () => {
    expect(trainingPrice({ ...training, pricePerDeviceHour: 10 })).toEqual({
      hours: 10,
      deviceHours: 640,
      price: 6400,
      resume: { hours: 5, price: 3200 },
      expectedFailures: 0,
    })
    expect(trainingPrice(training)).not.toHaveProperty('price')
  })

  it('counts saves, the start, and what expected failures lose', () => {
    const saving = { ...training, saveSeconds: 90, saveInterval: 100, startSeconds: 900 }
    expect(trainingPrice(saving).hours).toBe(10 + 0.25 + 0.25)
    // Half an interval, 0.5 h, and a start, 0.25 h; a failure each 64000 / 64 = 1000 h.
    const { hours, resume, expectedFailures } = trainingPrice({ ...saving, deviceHoursPerFailure: 64_000 })
    expect(resume.hours).toBe(0.75)
    expect(hours).toBeCloseTo(10.5 / (1 - 0.75 / 1000), 9)
    expect(expectedFailures).toBeCloseTo(hours / 1000, 9)
  })

  it('refuses a training that fails more often than it gets on', () => {
    expect(() => trainingPrice({ ...training, deviceHoursPerFailure: 64 })).toThrow(
      'A failure every 1.00 h costs 5.00 h: such a training never ends. Save more often.',
    )
    expect(() => trainingPrice({ ...training, iterations: 0 })).toThrow('iterations is 0; it must be above 0.')
  })
})

describe('checkpointInterval', () => {
  // Seconds by Daly's equation 37, worked out apart.
  it.each([
    [60, 86_400, 3180],
    [300, 86_400, 7000],
    [120, 14_400, 1779],
    [7200, 1800, 1800],
  ])('for a save of %d s and a failure every %d s is %d s', (saveSeconds, betweenFailures, seconds) => {
    const found = checkpointInterval({
      saveSeconds,
      secondsPerIteration: 1,
      devices: 16,
      deviceHoursPerFailure: (16 * betweenFailures) / 3600,
    })
    expect(Math.abs(found - seconds)).toBeLessThanOrEqual(1)
  })

  it('is the one that trainingPrice finds cheapest, to a hundredth of the loss', () => {
    const options = { secondsPerIteration: 10, devices: 512, saveSeconds: 120, deviceHoursPerFailure: 20_000 }
    const hours = (saveInterval: number) => trainingPrice({ ...options, iterations: 1_000_000, saveInterval }).hours
    const least = Math.min(...Array.from({ length: 2000 }, (_, index) => hours(index + 1)))
    const busy = (1_000_000 * 10) / 3600
    expect(hours(checkpointInterval(options)) - busy).toBeLessThan(1.01 * (least - busy))
  })
})

function shapeOf(row: PublishedThroughput): TrainingShape {
  const { model, devices: worldSize, tp, pp, layersPerVirtualStage, ...batch } = row
  return {
    ...batch,
    model: of(model),
    layout: { tp, pp, worldSize, layersPerVirtualStage },
    precision: model === 'glm3-6b' ? 'fp16' : 'bf16',
  }
}
