import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { randomState } from '../../src/trainer/random-state.ts'
import { rowOrder, windowOrder, windowParts } from '../../src/trainer/sample-order.ts'
import { learningRateAt, learningRateSchedule } from '../../src/trainer/schedule.ts'
import { instructionSplits, pretrainingSplits, type SequenceRange, type Splits } from '../../src/trainer/splits.ts'

interface Part {
  readonly samples: number
  readonly requested: number
  readonly range: readonly [number, number]
  readonly sha256: string
  readonly windows?: number[]
  readonly document_index?: number[]
  readonly sample_index?: number[]
  readonly shuffle_index?: number[]
}

interface Golden {
  readonly windows: readonly {
    name: string
    lengths: number[]
    seq: number
    seed: number
    split: string
    train: Part | null
    valid: Part | null
    test: Part | null
  }[]
  readonly rows: readonly { first: number; end: number; samples: number; seed: number; order: number[] }[]
  readonly splits: readonly {
    split: string
    size: number
    pretraining: ([number, number] | null)[]
    instruction: [number, number, number, number]
  }[]
  readonly schedules: readonly {
    style: 'cosine' | 'linear' | 'constant'
    lr: number
    minlr: number
    iters: number
    gbs: number
    decay?: number
    warm?: number
    frac?: number
    rates: number[]
  }[]
}

const golden: Golden = JSON.parse(readFileSync(new URL('golden/program-order.json', import.meta.url), 'utf8'))

describe('random state', () => {
  // numpy.random.RandomState(seed): bytes(4) five times, shuffle(arange(10)), random_sample() twice, sha256 of shuffle(arange(100003)).
  test.each([
    [
      0,
      [2357136044, 2546248239, 3071714933, 3626093760, 2588848963],
      [8, 6, 4, 0, 2, 5, 9, 1, 7, 3],
      [0.9636627605010293, 0.3834415188257777],
      '154a500c2bffc81b0901b65a1002ec46386ffd3920bfafbfc3ea83224c5e3e78',
    ],
    [
      1234,
      [822569775, 2137449171, 2671936806, 3512589365, 1880026316],
      [5, 0, 3, 9, 2, 6, 7, 1, 8, 4],
      [0.15881535318443651, 0.11613782761854874],
      '0cb1c4b9635058037b7f4608fb0dcf63c443e4d0bfacfde34f593b5413340219',
    ],
    [
      4294967295,
      [419326371, 479346978, 3918654476, 2416749639, 3388880820],
      [5, 8, 4, 7, 3, 9, 1, 2, 6, 0],
      [0.17075136716467365, 0.6530454381149675],
      '6cdbc6202c034f3d8212aa97e7c2282230fc8df58bd8b4cad7cd79c4097b4124',
    ],
  ])('seed %i draws the numbers that NumPy draws', (seed, bits, shuffled, fractions, sha256) => {
    const random = randomState(seed)
    expect(bits.map(() => random.uint32())).toEqual(bits)
    const ten = count(10)
    random.shuffle(ten)
    expect([...ten]).toEqual(shuffled)
    expect([random.random(), random.random()]).toEqual(fractions)
    const many = count(100003)
    random.shuffle(many)
    expect(digest(many)).toBe(sha256)
  })

  test('shuffles of a fresh state go on from each other', () => {
    const random = randomState(1234)
    const [first, second] = [count(5), count(5)]
    random.shuffle(first)
    random.shuffle(second)
    expect([[...first], [...second]]).toEqual([
      [4, 0, 1, 2, 3],
      [3, 2, 1, 0, 4],
    ])
  })
})

describe('windows', () => {
  const parts = golden.windows.flatMap(({ name, lengths, ...common }) =>
    (['train', 'valid', 'test'] as const).flatMap(part => {
      const expected = common[part]
      return expected ? [{ name, lengths: Int32Array.from(lengths), part, expected, ...common }] : []
    }),
  )

  test.each(parts)('$name: $part reads what GPTDataset reads', ({ lengths, seq, seed, split, part, expected }) => {
    const range = pretrainingSplits(split, lengths.length)[part] as SequenceRange
    expect([range.first, range.end]).toEqual(expected.range)
    const order = windowOrder(lengths, { ...range, samples: expected.requested, seqLength: seq, seed })
    if (expected.document_index) {
      expect([...order.documentIndex]).toEqual(expected.document_index)
      expect([...order.sampleIndex]).toEqual(expected.sample_index)
      expect([...order.shuffleIndex]).toEqual(expected.shuffle_index)
    }
    expect(order.shuffleIndex.length).toBe(expected.samples)

    const starts = lengths.map((_, i) => lengths.subarray(0, i).reduce((sum, length) => sum + length, 0))
    const tokens = Int32Array.from(
      Array.from({ length: expected.samples }, (_, sample) =>
        windowParts(order, lengths, sample).flatMap(({ sequence, offset, length }) =>
          Array.from({ length }, (_, i) => (starts[sequence] ?? 0) + offset + i),
        ),
      ).flat(),
    )
    expect(tokens.length).toBe(expected.samples * (seq + 1))
    expect(digest(tokens)).toBe(expected.sha256)
  })

  test('empty sequences are passed over', () => {
    const lengths = Int32Array.of(0, 3, 0, 0, 4, 0)
    const order = windowOrder(lengths, { first: 0, end: 6, samples: 2, seqLength: 3, seed: 1 })
    const read = [0, 1].map(sample => windowParts(order, lengths, sample).map(part => part.length))
    expect(read.map(lengths => lengths.reduce((sum, length) => sum + length, 0))).toEqual([4, 4])
    expect(read.flat().every(length => length > 0)).toBe(true)
  })

  test('an index that would not fit the memory is refused before it is made', () => {
    const options = { first: 0, end: 2, samples: 1e9, seqLength: 8, seed: 1 }
    expect(() => windowOrder(Int32Array.of(5, 5), options)).toThrow(/an index of 1600000002 entries/)
    expect(() => rowOrder(options)).toThrow(/take 500000001 passes over the data/)
  })

  test('sequences without a single token are refused', () => {
    expect(() => windowOrder(Int32Array.of(0, 0), { first: 0, end: 2, samples: 1, seqLength: 3, seed: 1 })).toThrow(
      /hold no token/,
    )
  })
})

test.each(golden.rows)(
  'rows $first to $end, $samples samples, seed $seed: the order that ModelLink reads',
  ({ order, ...options }) => {
    expect([...rowOrder(options)]).toEqual(order)
  },
)

describe('splits', () => {
  test.each(golden.splits)('$split of $size', ({ split, size, pretraining, instruction }) => {
    const filled = (pair: readonly (number | undefined)[] | null | undefined) =>
      pair && (pair[1] as number) > (pair[0] as number) ? { first: pair[0], end: pair[1] } : undefined
    const parts = ({ train, valid, test }: Splits) => [train, valid, test]
    expect(parts(pretrainingSplits(split, size))).toEqual(pretraining.map(filled))
    expect(parts(instructionSplits(split, size))).toEqual([0, 1, 2].map(i => filled(instruction.slice(i, i + 2))))
  })

  test.each(['0,0,0', '1,2,3,4', 'all', ''])('"%s" is refused', split => {
    expect(() => pretrainingSplits(split, 10)).toThrow(/expected up to three shares/)
  })
})

test.each(golden.schedules)('$style from $lr to $minlr: the rates of OptimizerParamScheduler', golden => {
  const schedule = learningRateSchedule({
    lr: golden.lr,
    minLr: golden.minlr,
    lrDecayStyle: golden.style,
    trainIters: golden.iters,
    globalBatchSize: golden.gbs,
    lrDecayIters: golden.decay,
    lrWarmupIters: golden.warm ?? 0,
    lrWarmupFraction: golden.frac,
    lrWarmupInit: 0,
  })
  expect(golden.rates.map((_, k) => learningRateAt(schedule, (k + 1) * golden.gbs))).toEqual(golden.rates)
})

function count(length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => i)
}

function digest(values: Int32Array): string {
  return createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex')
}
