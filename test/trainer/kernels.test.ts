import { describe, expect, test } from 'vitest'
import { arenaStart, scratchBytes } from '../../src/trainer/arena.ts'
import { differences, dot, kernelMemory, random, relativeError } from './kernel-memory.ts'

const exact = 2e-6
const odd = [1, 3, 4, 7, 16, 33]

describe.each(['reproducible', 'fast'] as const)('the %s kernels', numerics => {
  test('keep their own tables below the arena', () => {
    const { kernels } = kernelMemory(numerics)
    expect(kernels.heapBase()).toBeGreaterThan(0)
    expect(kernels.heapBase()).toBeLessThanOrEqual(arenaStart)
  })

  test.each([1, 128, 1000, 4096])('need as much scratch for %i positions as the arena gives', positions => {
    expect(kernelMemory(numerics).kernels.scratchBytes(positions)).toBe(scratchBytes(positions))
  })

  test.each([
    [1, 1, 1],
    [4, 8, 4],
    [5, 9, 3],
    [3, 7, 300],
    [65, 13, 257],
    [67, 521, 5],
    [128, 64, 32],
  ])('multiply %i×%i by inner %i, in every orientation', (m, n, k) => {
    const memory = kernelMemory(numerics)
    const { kernels, scratch } = memory
    const [a, b, c] = [random(1, m * k), random(2, k * n), random(3, m * n)]
    const product = c.map((_, at) => {
      const [i, j] = [Math.floor(at / n), at % n]
      return dot(
        a.slice(i * k, (i + 1) * k),
        Array.from({ length: k }, (_, p) => b[p * n + j]!),
      )
    })
    const flip = (x: number[], rows: number, columns: number) =>
      x.map((_, at) => x[(at % rows) * columns + Math.floor(at / rows)]!)
    const lefts: [number, number, number][] = [
      [memory.put(a), k, 1],
      [memory.put(flip(a, m, k)), 1, m],
    ]
    const rights: [number, number, number][] = [
      [memory.put(b), n, 1],
      [memory.put(flip(b, k, n)), 1, k],
    ]
    for (const left of lefts) {
      for (const right of rights) {
        const target = memory.put(c)
        kernels.gemm(m, n, k, ...left, ...right, target, n, 1, 0, scratch)
        expect(relativeError(memory.take(target, m * n), product)).toBeLessThan(exact)
        kernels.gemm(m, n, k, ...left, ...right, target, n, -0.5, 1, scratch)
        expect(
          relativeError(
            memory.take(target, m * n),
            product.map(x => x / 2),
          ),
        ).toBeLessThan(exact * 2)
      }
    }
  })

  test('write no element outside the product', () => {
    const memory = kernelMemory(numerics)
    const c = memory.put(new Array(8 * 10).fill(7))
    const [a, b] = [memory.put(random(1, 15)), memory.put(random(2, 27))]
    memory.kernels.gemm(5, 9, 3, a, 3, 1, b, 9, 1, c, 10, 1, 0, memory.scratch)
    const found = memory.take(c, 80)
    expect(found.filter((_, at) => at % 10 === 9 || at >= 50).every(x => x === 7)).toBe(true)
  })

  test.each(odd)('normalise rows of %i, and differentiate', n => {
    const memory = kernelMemory(numerics)
    const { kernels } = memory
    const rows = 3
    const epsilon = 2 ** -10
    const [x, w, dy] = [random(1, rows * n), random(2, n), random(3, rows * n)]
    const norm = (x: readonly number[], w: readonly number[]) =>
      x.map((value, at) => {
        const row = x.slice(at - (at % n), at - (at % n) + n)
        return (value * w[at % n]!) / Math.sqrt(dot(row, row) / n + epsilon)
      })
    const [atX, atW, atDy, y] = [memory.put(x), memory.put(w), memory.put(dy), memory.put(x)]
    const inverse = memory.put(new Array(rows).fill(0))
    kernels.rmsNorm(atX, atW, y, inverse, rows, n, epsilon)
    expect(relativeError(memory.take(y, rows * n), norm(x, w))).toBeLessThan(exact)

    const dx = memory.put(dy)
    const expected = differences(x => dot(norm(x, w), dy), x)
    kernels.rmsNormBackward(atDy, atX, atW, inverse, dx, rows, n, 0)
    expect(relativeError(memory.take(dx, rows * n), expected)).toBeLessThan(1e-5)
    kernels.rmsNormBackward(atDy, atX, atW, inverse, dx, rows, n, 1)
    expect(
      relativeError(
        memory.take(dx, rows * n),
        expected.map(d => d * 2),
      ),
    ).toBeLessThan(1e-5)

    const dw = memory.put(new Array(n).fill(1))
    const cut = Math.floor(n / 8) * 4
    kernels.rmsNormWeightBackward(atDy, atX, inverse, dw, rows, n, 0, cut)
    kernels.rmsNormWeightBackward(atDy, atX, inverse, dw, rows, n, cut, n)
    const slopes = differences(w => dot(norm(x, w), dy), w)
    expect(
      relativeError(
        memory.take(dw, n),
        slopes.map(d => d + 1),
      ),
    ).toBeLessThan(1e-5)
  })

  test.each(odd)('gate %i values, and differentiate', n => {
    const memory = kernelMemory(numerics)
    const rows = 2
    const [gateUp, dy] = [random(1, rows * 2 * n, 8), random(2, rows * n)]
    const swiglu = (x: readonly number[]) =>
      Array.from({ length: rows * n }, (_, at) => {
        const gate = at + Math.floor(at / n) * n
        return (x[gate]! / (1 + Math.exp(-x[gate]!))) * x[gate + n]!
      })
    const [address, y] = [memory.put(gateUp), memory.put(dy)]
    const forward = memory.put(dy)
    memory.kernels.swiglu(address, forward, rows, n)
    expect(relativeError(memory.take(forward, rows * n), swiglu(gateUp))).toBeLessThan(exact)
    memory.kernels.swigluBackward(address, y, rows, n)
    expect(relativeError(memory.take(y, rows * n), swiglu(gateUp))).toBeLessThan(exact)
    const expected = differences(x => dot(swiglu(x), dy), gateUp)
    expect(relativeError(memory.take(address, rows * 2 * n), expected)).toBeLessThan(1e-5)
  })

  test.each(odd.filter(n => n > 1))('take the cross-entropy over %i ids, and differentiate', n => {
    const memory = kernelMemory(numerics)
    const labels = [n - 1, -100, 0]
    const logits = random(1, labels.length * n, 20)
    const losses = (x: readonly number[]) =>
      labels.map((label, row) => {
        if (label < 0) return 0
        const values = x.slice(row * n, (row + 1) * n)
        const top = Math.max(...values)
        return Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0)) + top - values[label]!
      })
    const atLabels = memory.putInts(labels)
    const found = memory.put(new Array(labels.length * 2).fill(9))
    memory.kernels.crossEntropy(memory.put(logits), atLabels, found, labels.length, n, 0)
    expect(relativeError(memory.takeDoubles(found, labels.length), losses(logits))).toBeLessThan(exact)
    const gradient = memory.put(logits)
    memory.kernels.crossEntropy(gradient, atLabels, found, labels.length, n, 0.25)
    const expected = differences(x => losses(x).reduce((a, b) => a + b) / 4, logits)
    expect(relativeError(memory.take(gradient, logits.length), expected)).toBeLessThan(1e-5)
    expect(memory.take(gradient, logits.length).slice(n, 2 * n)).toEqual(new Array(n).fill(0))
  })

  test('add biases and sum rows back, by columns', () => {
    const memory = kernelMemory(numerics)
    const [y, bias] = [random(1, 3 * 7), random(2, 7)]
    const [atY, atBias, sum] = [memory.put(y), memory.put(bias), memory.put(bias)]
    memory.kernels.addBias(atY, atBias, 3, 7)
    const biased = y.map((x, at) => Math.fround(x + bias[at % 7]!))
    expect(memory.take(atY, 21)).toEqual(biased)
    memory.kernels.sumRows(atY, sum, 3, 7, 4, 7)
    const sums = bias.map((b, i) => (i < 4 ? b : b + biased[i]! + biased[7 + i]! + biased[14 + i]!))
    expect(relativeError(memory.take(sum, 7), sums)).toBeLessThan(exact)
  })

  test('look tokens up, and add their gradients up where one comes twice', () => {
    const memory = kernelMemory(numerics)
    const table = random(1, 4 * 5)
    const tokens = memory.putInts([2, 0, 2])
    const [x, dTable] = [memory.put(new Array(15).fill(0)), memory.put(new Array(20).fill(1))]
    memory.kernels.embed(tokens, memory.put(table), x, 3, 5)
    expect(memory.take(x, 15)).toEqual([...table.slice(10, 15), ...table.slice(0, 5), ...table.slice(10, 15)])
    memory.kernels.embedBackward(tokens, memory.put(new Array(15).fill(0.5)), dTable, 3, 5, 0, 4)
    memory.kernels.embedBackward(tokens, memory.put(new Array(15).fill(0.25)), dTable, 3, 5, 4, 5)
    const row = (first: number, last: number) => [first, first, first, first, last]
    expect(memory.take(dTable, 20)).toEqual([row(1.5, 1.25), row(1, 1), row(2, 1.5), row(1, 1)].flat())
  })

  test.each([0, 1, 3, 4, 103])('sum %i squares in float64', n => {
    const memory = kernelMemory(numerics)
    const x = random(1, n, 4)
    expect(memory.kernels.sumSquares(memory.put(x), n)).toBeCloseTo(dot(x, x), 10)
  })

  test.each([1, 4, 11])("update %i weights by AdamW's formula, and zero the gradients", n => {
    const memory = kernelMemory(numerics)
    const [w, g, m] = [random(1, n), random(2, n), random(3, n)]
    const v = random(4, n).map(Math.abs)
    const at = [w, g, m, v].map(values => memory.put(values)) as [number, number, number, number]
    const [clip, rate, b1, b2, tiny, decay, step] = [0.5, 0.125, 0.875, 0.96875, 2 ** -20, 0.25, 3] as const
    memory.kernels.adamw(...at, n, clip, rate, b1, b2, tiny, decay, step)
    const first = m.map((x, i) => b1 * x + (1 - b1) * clip * g[i]!)
    const second = v.map((x, i) => b2 * x + (1 - b2) * (clip * g[i]!) ** 2)
    const weights = w.map((x, i) => {
      const denominator = Math.sqrt(second[i]! / (1 - b2 ** step)) + tiny
      return x * (1 - rate * decay) - ((rate / (1 - b1 ** step)) * first[i]!) / denominator
    })
    expect(relativeError(memory.take(at[0], n), weights)).toBeLessThan(exact)
    expect(memory.take(at[1], n)).toEqual(new Array(n).fill(0))
    expect(relativeError(memory.take(at[2], n), first)).toBeLessThan(exact)
    expect(relativeError(memory.take(at[3], n), second)).toBeLessThan(exact)
  })
})
