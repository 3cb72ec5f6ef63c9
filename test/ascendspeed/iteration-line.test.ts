import { describe, expect, test } from 'vitest'
import {
  formatIterationLine,
  formatValidationLines,
  type IterationLine,
  parseIterationLine,
  parseValidationLine,
} from '../../src/ascendspeed/iteration-line.ts'

// Lines printed by Python with the format strings of Megatron-LM core_r0.6.0, megatron/training/training.py.
const printed: readonly (readonly [string, IterationLine])[] = [
  [
    ' [2024-07-20 11:22:33] iteration        2/    5000 | consumed samples:         1024 | elapsed time per iteration (ms): 15403.3 | learning rate: 9.999900E-07 | global batch size:   512 | lm loss: 1.093457E+00 | loss scale: 1.0 | grad norm: 2.750 | number of skipped iterations:   0 | number of nan iterations:   0 |',
    {
      timestamp: '2024-07-20 11:22:33',
      iteration: 2,
      trainIters: 5000,
      consumedSamples: 1024,
      elapsedMsPerIteration: 15403.3,
      learningRate: 9.9999e-7,
      globalBatchSize: 512,
      loss: 1.093457,
      lossScale: 1,
      gradNorm: 2.75,
      skippedIterations: 0,
      nanIterations: 0,
    },
  ],
  [
    ' [2024-07-20 11:22:33] iteration        1/      10 | consumed samples:           16 | elapsed time per iteration (ms): 812.0 | learning rate: 0.000000E+00 | global batch size:    16 | loss scale: 4096.0 | number of skipped iterations:   1 | number of nan iterations:   1 |',
    {
      timestamp: '2024-07-20 11:22:33',
      iteration: 1,
      trainIters: 10,
      consumedSamples: 16,
      elapsedMsPerIteration: 812,
      learningRate: 0,
      globalBatchSize: 16,
      lossScale: 4096,
      skippedIterations: 1,
      nanIterations: 1,
    },
  ],
  [
    ' [2024-07-20 11:22:33] iteration 123456789/123456789 | consumed samples: 10000000000000 | elapsed time per iteration (ms): 7.0 | throughput per GPU (TFLOP/s/GPU): 156.2 | learning rate: 1.250000E-100 | global batch size: 123456 | lm loss: 1.234568E+04 | loss scale: 1.0 | grad norm: inf | number of skipped iterations:   0 | number of nan iterations:   0 |',
    {
      timestamp: '2024-07-20 11:22:33',
      iteration: 123456789,
      trainIters: 123456789,
      consumedSamples: 10 ** 13,
      elapsedMsPerIteration: 7,
      tflopsPerDevice: 156.2,
      learningRate: 1.25e-100,
      globalBatchSize: 123456,
      loss: 12345.68,
      lossScale: 1,
      gradNorm: Number.POSITIVE_INFINITY,
      skippedIterations: 0,
      nanIterations: 0,
    },
  ],
]

describe('iteration line', () => {
  test.each(printed)('%s is written to the character and read back', (text, line) => {
    expect(formatIterationLine(line)).toBe(text)
    expect(parseIterationLine(text)).toEqual(line)
  })

  test('a loss that is not above zero is left out, as Megatron does', () => {
    for (const loss of [0, Number.NaN]) {
      expect(formatIterationLine({ iteration: 1, trainIters: 2, loss })).toBe(' iteration        1/       2 |')
    }
  })

  const dialects: readonly (readonly [string, string, Partial<IterationLine>])[] = [
    [
      'ModelLink 1.0: no time stamp, a short learning rate',
      ' iteration       20/    2000 | consumed samples:          320 | elapsed time per iteration (ms): 1503.1 | learning rate: 1.250E-06 | global batch size:    16 | lm loss: 2.5E+00 | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations:   0 | number of nan iterations:   0 |',
      { iteration: 20, trainIters: 2000, learningRate: 1.25e-6, loss: 2.5 },
    ],
    [
      'AscendSpeed 2023: consumed tokens, sequence length, samples per second, TFLOPs',
      ' iteration       30/    5000 | consumed samples:          480 | consumed tokens:       983040 | elapsed time per iteration (ms): 901.5 | learning rate: 1.000E-06 | global batch size:    16 | lm loss: 3.250000E+00 | loss scale: 65536.0 | grad norm: 2.500 | actual seqlen:  2048 | number of skipped iterations:   0 | number of nan iterations:   0 | samples per second: 17.748 | TFLOPs: 98.10 |',
      { iteration: 30, consumedTokens: 983040, tflopsPerDevice: 98.1, lossScale: 65536, nanIterations: 0 },
    ],
    [
      'text of a launcher before the line',
      '2024-07-20T11:22:33.1Z stdout F [default7]: [2024-07-20 11:22:33] iteration        5/      10 | consumed samples:           80 | lm loss: 1.5E+00 | \r',
      { timestamp: '2024-07-20 11:22:33', iteration: 5, consumedSamples: 80, loss: 1.5 },
    ],
    [
      'optional fields, one of them not known',
      ' iteration        5/      10 | learning rate: 1.0E-05 | decoupled learning rate: 9.0E-01 | num zeros: 12.0 | params norm: 33.125 | lm loss: NAN | moon phase: full |',
      { learningRate: 1e-5, numZeros: 12, paramsNorm: 33.125, loss: Number.NaN },
    ],
  ]
  test.each(dialects)('%s', (_, text, expected) => {
    expect(parseIterationLine(text)).toMatchObject(expected)
  })

  test.each([
    'iteration 5 of 10',
    ' validation loss at iteration 5 | lm loss value: 1.0E+00 | lm loss PPL: 2.7E+00 | ',
    'saving checkpoint at iteration       5 to out in torch format',
    '',
  ])('"%s" is not an iteration line', text => {
    expect(parseIterationLine(text)).toBeUndefined()
  })
})

describe('validation line', () => {
  // The first from Python, as above; 95 and 112 dashes there.
  const cases = [
    [
      { iteration: 200, loss: 2.345678 },
      ' validation loss at iteration 200 | lm loss value: 2.345678E+00 | lm loss PPL: 1.044035E+01 | ',
      95,
      10.44035,
    ],
    [
      { iteration: 40, set: 'validation', loss: 25 },
      ' validation loss at iteration 40 on validation set | lm loss value: 2.500000E+01 | lm loss PPL: 4.851652E+08 | ',
      112,
      4.851652e8,
    ],
  ] as const

  test.each(cases)('%o stands between dashes and is read back', (line, text, dashes, perplexity) => {
    expect(formatValidationLines(line)).toEqual(['-'.repeat(dashes), text, '-'.repeat(dashes)])
    expect(parseValidationLine(text)).toEqual({ ...line, perplexity })
  })

  test('other lines are not validation lines', () => {
    expect(parseValidationLine(printed[0]?.[0] ?? '')).toBeUndefined()
    expect(parseValidationLine('-'.repeat(95))).toBeUndefined()
    expect(parseValidationLine(' validation loss at iteration 4 | lm loss value: ? | lm loss PPL: 1.0')).toBeUndefined()
  })
})
