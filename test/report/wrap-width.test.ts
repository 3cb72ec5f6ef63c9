import stringWidth from 'string-width'
import { describe, expect, it } from 'vitest'
import { duration, trainingNote } from '../../src/report/training-note.ts'
import { wrapWidth } from '../../src/report/wrap-width.ts'

describe('a line that is wider than the terminal', () => {
  it.each([
    ['words', 'one two three four', 9, ['one two', 'three', 'four']],
    ['indented words', '    one two three', 11, ['    one two', '    three']],
    ['Chinese text, two columns a character', '训练作业在第七次迭代后停止', 10, ['训练作业在', '第七次迭代', '后停止']],
    ['mixed text', '  loss 是 NaN，停止训练', 12, ['  loss 是', '  NaN，停止', '  训练']],
    ['a word without an end', 'aaaaaaaaaa', 4, ['aaaa', 'aaaa', 'aa']],
    ['a line that fits', '训练 ok', 7, ['训练 ok']],
  ])('is broken: %s', (_, text, columns, lines) => {
    expect(wrapWidth(text, columns).split('\n')).toEqual(lines)
  })

  it('is never wider afterwards, and loses nothing', () => {
    const text =
      '    line 812 of node 1: RuntimeError: 显存不足 NPU out of memory. Tried to allocate 5.03 GiB (NPU 3; 总容量 60.96 GiB)'
    for (let columns = 10; columns < 120; columns++) {
      const lines = wrapWidth(text, columns).split('\n')
      expect(Math.max(...lines.map(line => stringWidth(line)))).toBeLessThanOrEqual(columns)
      expect(lines.join('').replaceAll(/\s/g, '')).toBe(text.replaceAll(/\s/g, ''))
    }
  })
})

it('a training is told by loss, speed, use of the devices, time left and cost, as far as they are known', () => {
  const values = { iteration: 5, trainIters: 100, loss: 2.3456, tokensPerSecondPerDevice: 1987.6 }
  expect(trainingNote({ ...values, modelFlopsUtilization: 0.413, etaSeconds: 4980, price: 1234.5 })).toBe(
    'iteration 5/100 · loss 2.346 · 1,988 tokens/s/p · MFU 41 % · 1 h 23 min left · cost 1,234.5',
  )
  expect(trainingNote({ iteration: 5, trainIters: 100 })).toBe('iteration 5/100')
})

it.each([
  [0.4, '0 s'],
  [45.2, '45 s'],
  [125, '2 min 5 s'],
  [3600, '1 h'],
  [4980, '1 h 23 min'],
  [273_600, '3 d 4 h'],
])('%f seconds are %s', (seconds, text) => {
  expect(duration(seconds)).toBe(text)
})
