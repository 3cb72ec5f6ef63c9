import { expect, test } from 'vitest'
import { LayoutError } from '../../src/errors.ts'
import { type StageOptions, stageLayers } from '../../src/layout/stages.ts'

test.each<[string, StageOptions, number[][][]]>([
  ['one stage holds everything', { numLayers: 3, pp: 1 }, [[[0, 1, 2]]]],
  ['stages hold equal shares in order', { numLayers: 6, pp: 3 }, [[[0, 1]], [[2, 3]], [[4, 5]]]],
  [
    'a list gives uneven shares',
    { numLayers: 12, pp: 3, layersPerStage: [3, 5, 4] },
    [[[0, 1, 2]], [[3, 4, 5, 6, 7]], [[8, 9, 10, 11]]],
  ],
  // Verified against the real converter: 12 layers, pp 3, --num-layers-per-virtual-pipeline-stage 2.
  [
    'virtual stages are dealt out in turns',
    { numLayers: 12, pp: 3, layersPerVirtualStage: 2 },
    [
      [
        [0, 1],
        [6, 7],
      ],
      [
        [2, 3],
        [8, 9],
      ],
      [
        [4, 5],
        [10, 11],
      ],
    ],
  ],
  [
    'virtual stages of one layer',
    { numLayers: 4, pp: 2, layersPerVirtualStage: 1 },
    [
      [[0], [2]],
      [[1], [3]],
    ],
  ],
])('%s', (_, options, expected) => {
  expect(stageLayers(options)).toEqual(expected)
})

test.each<[string, StageOptions, RegExp]>([
  [
    'layers that do not divide',
    { numLayers: 12, pp: 5 },
    /12 layers do not divide among pp 5\. pp 1, 2, 3, 4, 6, 12 would/,
  ],
  [
    'a list of another length',
    { numLayers: 4, pp: 2, layersPerStage: [4] },
    /\[4\] must be 2 numbers.*they are 1 and add up to 4/,
  ],
  [
    'a list that adds up to something else',
    { numLayers: 4, pp: 2, layersPerStage: [2, 3] },
    /add up to 4 layers.*add up to 5/,
  ],
  ['a stage without layers', { numLayers: 4, pp: 2, layersPerStage: [4, 0] }, /must be 2 numbers from 1/],
  [
    'virtual stages that do not divide',
    { numLayers: 12, pp: 3, layersPerVirtualStage: 3 },
    /virtual stages of 3 layers on pp 3\. 1, 2, 4 layers per virtual stage would/,
  ],
  [
    'both kinds at once',
    { numLayers: 4, pp: 2, layersPerStage: [2, 2], layersPerVirtualStage: 1 },
    /exclude each other/,
  ],
  ['no stage', { numLayers: 4, pp: 0 }, /whole numbers from 1/],
])('%s: refused with the numbers', (_, options, message) => {
  expect(() => stageLayers(options)).toThrow(LayoutError)
  expect(() => stageLayers(options)).toThrow(message)
})
