import { expect, test } from 'vitest'
import { LayoutError } from '../../src/errors.ts'
import { paddedVocabSize } from '../../src/layout/vocab-padding.ts'

// The first three were produced by the real converters, 101 being the vocabulary of their small model.
test.each([
  [{ vocabSize: 101, tp: 2 }, 102],
  [{ vocabSize: 104, tp: 2 }, 104],
  [{ vocabSize: 101, tp: 2, divisor: 16 }, 128],
  [{ vocabSize: 32000, tp: 8 }, 32000],
  [{ vocabSize: 151851, tp: 8, divisor: 16 }, 151936],
  [{ vocabSize: 128256, tp: 8, divisor: 16032 }, 128256],
])('%j pads to %d', (options, expected) => {
  expect(paddedVocabSize(options)).toBe(expected)
})

test.each([
  { vocabSize: 0, tp: 1 },
  { vocabSize: 5, tp: 0 },
  { vocabSize: 5, tp: 1.5 },
  { vocabSize: 5, tp: 1, divisor: -1 },
])('%j is refused', options => {
  expect(() => paddedVocabSize(options)).toThrow(LayoutError)
})
