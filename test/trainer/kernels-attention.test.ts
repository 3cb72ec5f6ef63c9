import { describe, expect, test } from 'vitest'
import { differences, dot, kernelMemory, random, relativeError } from './kernel-memory.ts'

interface Shape {
  readonly positions: number
  readonly headDim: number
}

/** Causal softmax(q·kᵀ·scale)·v of one head; rows of headDim. */
function attention(q: readonly number[], k: readonly number[], v: readonly number[], shape: Shape): number[] {
  const { positions, headDim } = shape
  const row = (x: readonly number[], i: number) => x.slice(i * headDim, (i + 1) * headDim)
  return Array.from({ length: positions }, (_, i) => {
    const scores = Array.from({ length: i + 1 }, (_, j) => Math.exp(dot(row(q, i), row(k, j)) / Math.sqrt(headDim)))
    const sum = scores.reduce((a, b) => a + b)
    return Array.from(
      { length: headDim },
      (_, d) =>
        dot(
          scores,
          scores.map((_, j) => v[j * headDim + d]!),
        ) / sum,
    )
  }).flat()
}

function rope(x: readonly number[], { positions, headDim }: Shape, base: number): number[] {
  const half = headDim / 2
  return x.map((value, at) => {
    const [row, i] = [Math.floor(at / headDim), at % headDim]
    const angle = (row % positions) * base ** (-(i % half) / half)
    const other = i < half ? -x[at + half]! : x[at - half]!
    return value * Math.cos(angle) + other * Math.sin(angle)
  })
}

/** Rows of headDim put into rows of `width`, from `column` on; the rest is filled with 3. */
function widen(x: readonly number[], headDim: number, { width, column }: { width: number; column: number }): number[] {
  return Array.from({ length: (x.length / headDim) * width }, (_, at) => {
    const i = (at % width) - column
    return i >= 0 && i < headDim ? x[Math.floor(at / width) * headDim + i]! : 3
  })
}

describe.each(['reproducible', 'fast'] as const)('the %s kernels', numerics => {
  test.each([
    [1, 2],
    [5, 3],
    [7, 8],
    [64, 4],
    [65, 6],
    [131, 2],
  ])('attend over %i positions with heads of %i, and differentiate', (positions, headDim) => {
    const memory = kernelMemory(numerics)
    const { kernels, scratch } = memory
    const n = positions * headDim
    const [q, k, v, dy] = [random(1, n, 2), random(2, n, 2), random(3, n, 2), random(4, n)]
    const shape = { positions, headDim }
    const width = headDim + 5
    const place = (x: readonly number[]) => memory.put(widen(x, headDim, { width, column: 2 })) + 8
    const narrow = (address: number) =>
      memory.take(address - 8, positions * width).filter((_, at) => at % width >= 2 && at % width < 2 + headDim)
    const [atQ, atK, atV, atDy, out] = [place(q), place(k), place(v), place(dy), place(dy)]
    const logSum = memory.put(new Array(positions).fill(0))
    const scale = 1 / Math.sqrt(headDim)
    kernels.attention(atQ, atK, atV, width, out, width, logSum, positions, headDim, scale, scratch)
    expect(relativeError(narrow(out), attention(q, k, v, shape))).toBeLessThan(4e-6)

    const [dq, dk, dv] = [place(dy), place(dy), place(dy)]
    kernels.attentionBackward(
      ...([atQ, atK, atV, width, out, atDy, dq, dk, dv, width] as const),
      ...([logSum, positions, headDim, scale, scratch] as const),
    )
    // Enough of the derivatives to cover every block, few enough to be quick.
    const every = Math.max(1, Math.floor(n / 24))
    const sample = (x: readonly number[]) => x.filter((_, at) => at % every === 0)
    const sampled = (f: (x: readonly number[]) => number, x: readonly number[]) =>
      differences(part => f(x.map((value, at) => (at % every === 0 ? part[at / every]! : value))), sample(x))
    const loss = (q: readonly number[], k: readonly number[], v: readonly number[]) =>
      dot(attention(q, k, v, shape), dy)
    expect(
      relativeError(
        sample(narrow(dq)),
        sampled(x => loss(x, k, v), q),
      ),
    ).toBeLessThan(1e-5)
    expect(
      relativeError(
        sample(narrow(dk)),
        sampled(x => loss(q, x, v), k),
      ),
    ).toBeLessThan(1e-5)
    expect(
      relativeError(
        sample(narrow(dv)),
        sampled(x => loss(q, k, x), v),
      ),
    ).toBeLessThan(1e-5)
    expect(memory.take(out - 8, 2)).toEqual([3, 3])
  })

  test.each([2, 6, 8, 20])('turn heads of %i by their position, and back', headDim => {
    const memory = kernelMemory(numerics)
    const { kernels } = memory
    const [positions, heads, groups, base] = [5, 4, 2, 500]
    const shape = { positions, headDim }
    const table = new Array((positions * headDim) / 2).fill(0)
    const [cos, sin] = [memory.put(table), memory.put(table)]
    kernels.ropeTables(cos, sin, positions, headDim / 2, base)

    // Two sequences; the second rank's rows start in the middle of the first.
    const width = (heads + 2 * groups) * headDim
    const rows = 2 * positions
    const qkv = random(1, rows * width)
    const address = memory.put(qkv)
    kernels.rope(address, cos, sin, 0, 3, width, positions, heads + groups, headDim)
    kernels.rope(address + 3 * width * 4, cos, sin, 3, rows - 3, width, positions, heads + groups, headDim)
    const column = (x: readonly number[], columns: number, head: number) =>
      x.filter((_, at) => Math.floor((at % columns) / headDim) === head)
    const turned = memory.take(address, rows * width)
    for (let head = 0; head < heads + groups; head++) {
      expect(relativeError(column(turned, width, head), rope(column(qkv, width, head), shape, base))).toBeLessThan(2e-6)
    }
    expect(column(turned, width, heads + groups)).toEqual(column(qkv, width, heads + groups))

    const inner = heads * headDim
    const [dq, dk, dv] = [random(2, rows * inner), random(3, rows * inner), random(4, rows * inner)]
    const gradient = memory.put(qkv)
    kernels.ropeBackward(
      ...([memory.put(dq), memory.put(dk), memory.put(dv), gradient, cos, sin] as const),
      ...([0, rows, positions, heads, groups, headDim] as const),
    )
    const found = memory.take(gradient, rows * width)
    const shared = (x: readonly number[], group: number) =>
      column(x, inner, group * 2).map((value, at) => value + column(x, inner, group * 2 + 1)[at]!)
    const back = (dy: readonly number[]) => differences(x => dot(rope(x, shape, base), dy), dy)
    expect(relativeError(column(found, width, 3), back(column(dq, inner, 3)))).toBeLessThan(1e-5)
    for (let group = 0; group < groups; group++) {
      expect(relativeError(column(found, width, heads + group), back(shared(dk, group)))).toBeLessThan(1e-5)
      expect(relativeError(column(found, width, heads + groups + group), shared(dv, group))).toBeLessThan(2e-6)
    }
  })
})
