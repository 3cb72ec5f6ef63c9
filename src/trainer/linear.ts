import type { Linear } from './parameters.ts'
import type { Rank } from './rank.ts'
import { type Span, split } from './sync.ts'

/** y (+)= x·Wᵀ and the adapter's part, for a span of rows. Keeps z for the backward pass. */
export function linearForward(
  rank: Rank,
  linear: Linear,
  { x, y, rows, accumulate = false }: { x: number; y: number; rows: Span; accumulate?: boolean },
): void {
  const { kernels, scratch } = rank
  const { inputs, outputs, weight, adapter } = linear
  const xRow = x + rows.first * inputs * 4
  const yRow = y + rows.first * outputs * 4
  kernels.gemm(
    rows.count,
    outputs,
    inputs,
    xRow,
    inputs,
    1,
    weight,
    1,
    inputs,
    yRow,
    outputs,
    1,
    accumulate ? 1 : 0,
    scratch,
  )
  if (adapter === undefined) return
  const { r, scale, a, b } = adapter
  const z = adapter.z + rows.first * r * 4
  kernels.gemm(rows.count, r, inputs, xRow, inputs, 1, a.weight, 1, inputs, z, r, 1, 0, scratch)
  for (const { row, column, count } of adapter.runs) {
    kernels.gemm(
      rows.count,
      count,
      r,
      z,
      r,
      1,
      b.weight + row * r * 4,
      1,
      r,
      yRow + column * 4,
      outputs,
      scale,
      1,
      scratch,
    )
  }
}

/** dx = dy·W and the adapter's part, for a span of rows. Keeps dz for `linearWeights`. */
export function linearBackward(
  rank: Rank,
  linear: Linear,
  { dy, dx, rows }: { dy: number; dx: number; rows: Span },
): void {
  const { kernels, scratch } = rank
  const { inputs, outputs, weight, adapter } = linear
  const dyRow = dy + rows.first * outputs * 4
  const dxRow = dx + rows.first * inputs * 4
  kernels.gemm(rows.count, inputs, outputs, dyRow, outputs, 1, weight, inputs, 1, dxRow, inputs, 1, 0, scratch)
  if (adapter === undefined) return
  const { r, scale, a, b } = adapter
  const dz = adapter.dz + rows.first * r * 4
  for (const [i, { row, column, count }] of adapter.runs.entries()) {
    const add = i > 0 ? 1 : 0
    kernels.gemm(
      rows.count,
      r,
      count,
      dyRow + column * 4,
      outputs,
      1,
      b.weight + row * r * 4,
      r,
      1,
      dz,
      r,
      scale,
      add,
      scratch,
    )
  }
  kernels.gemm(rows.count, inputs, r, dz, r, 1, a.weight, inputs, 1, dxRow, inputs, 1, 1, scratch)
}

/** Adds dyᵀ·x to the gradients, this rank's rows of each; all ranks must have finished dy, x, z and dz before. */
export function linearWeights(
  rank: Rank,
  linear: Linear,
  { dy, x, tokens }: { dy: number; x: number; tokens: number },
): void {
  const { kernels, scratch } = rank
  const { inputs, outputs, gradient, adapter } = linear
  if (gradient !== undefined) {
    const { first, count } = split(outputs, rank.index, rank)
    const rows = gradient + first * inputs * 4
    kernels.gemm(count, inputs, tokens, dy + first * 4, 1, outputs, x, inputs, 1, rows, inputs, 1, 1, scratch)
  }
  if (adapter === undefined) return
  const { r, scale, a, b, z, dz } = adapter
  for (const { row, column, count } of adapter.runs) {
    const part = split(count, rank.index, rank)
    const rows = b.gradient + (row + part.first) * r * 4
    const dyPart = dy + (column + part.first) * 4
    kernels.gemm(part.count, r, tokens, dyPart, 1, outputs, z, r, 1, rows, r, scale, 1, scratch)
  }
  const part = split(inputs, rank.index, rank)
  const columns = a.gradient + part.first * 4
  kernels.gemm(r, part.count, tokens, dz, 1, r, x + part.first * 4, inputs, 1, columns, inputs, 1, 1, scratch)
}
