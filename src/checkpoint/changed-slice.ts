import { type Dtype, dtypeBytes } from '../formats/tensor.ts'
import type { Difference } from './difference.ts'
import type { Rectangle, WeightPlan } from './weight-plan.ts'

type Slice = Pick<Extract<Difference, { kind: 'values' }>, 'tensor' | 'rows' | 'columns' | 'shardRows' | 'isPadding'>

/** Gathers where a shard differs from what it should hold, block by block. */
export interface ChangedSlice {
  /** Compares rows of the shard from `row`: whole rows, both as bytes of the same type. */
  compare(row: number, expected: Uint8Array, found: Uint8Array): void
  /** The slice of the first Hugging Face tensor that differs, or undefined when nothing does. */
  slice(): Slice | undefined
}

/** Starts gathering for the shard of one rank. */
export function changedSlice(options: {
  shape: readonly number[]
  dtype: Dtype
  plan: WeightPlan
  rank: number
  /** Whether padding rows count. */
  withPadding: boolean
}): ChangedSlice {
  const { shape, dtype, plan, rank, withPadding } = options
  const size = dtypeBytes[dtype]
  const rowBytes = shape.slice(1).reduce((a, b) => a * b, size)
  const { rectangles } = plan.shards[rank]!
  let first: { rectangle: Rectangle; rows: [number, number]; columns: [number, number] } | undefined
  const note = (row: number, columns: [number, number]): void => {
    const rectangle = rectangles.find(it => row < it.shardRow + it.rows * (it.copies ?? 1))!
    if (rectangle.copies !== undefined && !withPadding) return
    first ??= { rectangle, rows: [row, row + 1], columns }
    const isSame = first.rectangle.tensor === rectangle.tensor && first.rectangle.copies === rectangle.copies
    if (!isSame) return
    // Groups of one tensor are apart in the shard; the first run of rows is what is named.
    if (first.rectangle === rectangle) first.rows[1] = row + 1
    if (first.rectangle === rectangle)
      first.columns = [Math.min(first.columns[0], columns[0]), Math.max(first.columns[1], columns[1])]
  }
  return {
    compare(row, expected, found) {
      if (Buffer.compare(expected, found) === 0) return
      for (let at = 0; at < expected.length; at += rowBytes) {
        const [a, b] = [expected.subarray(at, at + rowBytes), found.subarray(at, at + rowBytes)]
        if (Buffer.compare(a, b) === 0) continue
        let [from, to] = [0, rowBytes - 1]
        while (a[from] === b[from]) from++
        while (a[to] === b[to]) to--
        note(row + at / rowBytes, [Math.floor(from / size), Math.floor(to / size) + 1])
      }
    },
    slice() {
      if (first === undefined) return undefined
      const { rectangle, rows, columns } = first
      const isPadding = rectangle.copies !== undefined
      const shift = rectangle.row - rectangle.shardRow
      const hfRows = isPadding ? [rectangle.row, rectangle.row + 1] : [rows[0] + shift, rows[1] + shift]
      return {
        ...{ tensor: rectangle.tensor, isPadding },
        rows: { start: hfRows[0]!, end: hfRows[1]! },
        columns: { start: columns[0] + rectangle.column, end: columns[1] + rectangle.column },
        shardRows: { start: rows[0], end: rows[1] },
      }
    },
  }
}
