import { trainingIterations } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { guideIterations } from '../../src/layout/training-iterations.ts'
import { trainingSchedule } from '../../src/layout/training-schedule.ts'
import { seededRandom } from './seeded-random.ts'

describe('trainingIterations', () => {
  it.each([
    // The vendor's guide gives 10 here (1200 / 512 truncated before it is multiplied); exactly it is 11.7.
    [{ samples: 1200, globalBatchSize: 512, epochs: 5 }, 11],
    [{ samples: 512, globalBatchSize: 512 }, 1],
    [{ samples: 1023, globalBatchSize: 512 }, 1],
    [{ samples: 1000, globalBatchSize: 16, epochs: 0.5 }, 31],
    // In binary fractions 1.1 × 10 000 000 000 is 11 000 000 000.000002 and 0.29 × 100 is 28.999999999999996.
    [{ samples: 100, globalBatchSize: 29, epochs: 0.29 }, 1],
    [{ samples: 10_000_000_000, globalBatchSize: 1, epochs: 1.1 }, 11_000_000_000],
    [{ samples: 1e9, globalBatchSize: 1, epochs: 1e-7 }, 100],
    // 8 windows of 8 tokens need 65 tokens: the last label is one token further.
    [{ tokens: 64, seqLength: 8, globalBatchSize: 1 }, 7],
    [{ tokens: 65, seqLength: 8, globalBatchSize: 1 }, 8],
    // Epochs are concatenated before windows are cut: 130 tokens hold 16 windows, not 2 × 8.
    [{ tokens: 65, seqLength: 8, globalBatchSize: 1, epochs: 2 }, 16],
    [{ tokens: 65, seqLength: 8, globalBatchSize: 1, epochs: 0.2 }, 1],
  ])('%j → %d', (options, iterations) => {
    expect(trainingIterations(options)).toBe(iterations)
  })

  it.each([
    [{ samples: 100, globalBatchSize: 512, epochs: 2 }, '100 samples × 2 epochs = 200 samples do not fill one global'],
    [{ tokens: 0, seqLength: 8, globalBatchSize: 1 }, '0 tokens in windows of 8 × 1 epochs = 0 samples do not fill'],
    [{ samples: 8, globalBatchSize: 0 }, 'globalBatchSize 0 is not a positive integer.'],
    [{ tokens: 8, globalBatchSize: 1 }, 'seqLength undefined is not a positive integer.'],
    [{ samples: 1e15, globalBatchSize: 1, epochs: 100 }, '100 epochs are more iterations than can be counted.'],
    [{ samples: 8, globalBatchSize: 1, epochs: Number.POSITIVE_INFINITY }, 'epochs Infinity is no number from 0.'],
  ])('refuses %j: %s', (options, message) => {
    expect(() => trainingIterations(options)).toThrow(expect.objectContaining({ code: 'invalid-layout' }))
    expect(() => trainingIterations(options)).toThrow(message)
  })

  it('says the largest global batch that the data fills', () => {
    const options = { samples: 100, globalBatchSize: 512, epochs: 2 }
    expect(() => trainingIterations(options)).toThrow(
      'Use a globalBatchSize of at most 200, more epochs, or more data.',
    )
  })

  // The largest q with q · batch · scale ≤ samples · numerator, found by checking q and q + 1, not by dividing.
  it('equals exact rational arithmetic on a million random cases', { timeout: 60_000 }, () => {
    const { whole } = seededRandom(20240930)
    let checked = 0
    const wrong: unknown[] = []
    while (checked < 1_000_000) {
      const digits = whole(0, 6)
      const numerator = whole(1, whole(0, 1) ? 999 : 9_999_999)
      const epochs = Number(`${numerator}e-${digits}`)
      const seqLength = whole(1, 32_768)
      const globalBatchSize = whole(1, whole(0, 1) ? 16 : 4096)
      const instruction = whole(0, 1) === 1
      const data = whole(1, instruction ? 10_000_000 : 2 ** whole(10, 45))
      const scale = 10n ** BigInt(digits)
      const seen = (BigInt(data) * BigInt(numerator)) / scale
      // The tokens that q global batches need, as Megatron counts them: q · batch · seqLength + 1.
      const needed = (q: bigint) =>
        instruction ? q * BigInt(globalBatchSize) : q * BigInt(globalBatchSize) * BigInt(seqLength) + 1n
      if (needed(1n) > seen || seen > 2n ** 53n) continue
      checked++
      const options = instruction
        ? { samples: data, globalBatchSize, epochs }
        : { tokens: data, seqLength, globalBatchSize, epochs }
      const q = BigInt(trainingIterations(options))
      if (!(needed(q) <= seen && needed(q + 1n) > seen)) wrong.push(options)
    }
    expect(wrong).toEqual([])
  })
})

describe('guideIterations', () => {
  it.each([
    [1200, 512, 5, 10],
    [511, 512, 5, 0],
    [1024, 512, 3, 6],
    [1200, 512, 0.5, undefined],
  ])('%d rows / %d * %d → %s, truncated first', (rows, globalBatchSize, epochs, iterations) => {
    expect(guideIterations(rows, globalBatchSize, epochs)).toBe(iterations)
  })
})

describe('trainingSchedule', () => {
  it('warms up over a hundredth, decays over all, saves ten times', () => {
    expect(trainingSchedule({ iterations: 2000, globalBatchSize: 64 })).toEqual({
      ...{ samples: 128_000, warmUpIterations: 20, decayIterations: 2000 },
      ...{ saveInterval: 200, saves: 10, evalInterval: 2000 },
    })
  })

  it('takes what is given, and saves after the last iteration too', () => {
    const given = { lrDecayIters: 50, lrWarmupIters: 5, saveInterval: 30, evalInterval: 20 }
    expect(trainingSchedule({ iterations: 100, globalBatchSize: 8, ...given })).toEqual({
      ...{ samples: 800, warmUpIterations: 5, decayIterations: 50, saveInterval: 30, saves: 4, evalInterval: 20 },
    })
  })
})
