// Causal attention of one head, in blocks of query rows: keys after a block's last row are never touched, and the
// probabilities are computed again in the backward pass from each row's log-sum-exp instead of being stored.
import { gemm, GEMM_SCRATCH } from './gemm'
import { exp1, exp4, maxLanes, sumLanes } from './vector'

const BLOCK: i32 = 64

/** Bytes of scratch of one thread: that of `gemm` and two blocks of scores. */
export function scratchBytes(positions: i32): i32 {
  return GEMM_SCRATCH + BLOCK * positions * 8
}

/** q, k, v and out point at the head's first row; rows are `width` (q, k, v) and `outWidth` floats apart. */
export function attention(
  q: usize, k: usize, v: usize, width: i32, out: usize, outWidth: i32, logSum: usize,
  positions: i32, headDim: i32, scale: f32, scratch: usize,
): void {
  const scores = scratch + GEMM_SCRATCH
  for (let first = 0; first < positions; first += BLOCK) {
    const rows = min(BLOCK, positions - first)
    const columns = first + rows
    gemm(rows, columns, headDim, q + at(first, width), width, 1, k, 1, width, scores, positions, scale, false, scratch)
    for (let i = 0; i < rows; i++) {
      const row = scores + at(i, positions)
      store<f32>(logSum + (<usize>(first + i) << 2), softmax(row, first + i + 1))
      clear(row, first + i + 1, columns)
    }
    gemm(rows, headDim, columns, scores, positions, 1, v, width, 1, out + at(first, outWidth), outWidth, 1, false, scratch)
  }
}

/** dOut [.., outWidth] → dq, dk, dv, with rows `outWidth` floats apart. */
export function attentionBackward(
  q: usize, k: usize, v: usize, width: i32, out: usize, dOut: usize, dq: usize, dk: usize, dv: usize, outWidth: i32,
  logSum: usize, positions: i32, headDim: i32, scale: f32, scratch: usize,
): void {
  const p = scratch + GEMM_SCRATCH
  const dp = p + at(BLOCK, positions)
  // The last block sees all keys, so it comes first and overwrites; the others add.
  const last = ((positions - 1) / BLOCK) * BLOCK
  for (let first = last; first >= 0; first -= BLOCK) {
    const rows = min(BLOCK, positions - first)
    const columns = first + rows
    const add = first != last
    const qBlock = q + at(first, width)
    const dOutBlock = dOut + at(first, outWidth)
    gemm(rows, columns, headDim, qBlock, width, 1, k, 1, width, p, positions, scale, false, scratch)
    gemm(rows, columns, headDim, dOutBlock, outWidth, 1, v, 1, width, dp, positions, 1, false, scratch)
    for (let i = 0; i < rows; i++) {
      const offset = at(first + i, outWidth)
      const delta = dot(dOut + offset, out + offset, headDim)
      const logSumRow = load<f32>(logSum + (<usize>(first + i) << 2))
      softmaxBackward(p + at(i, positions), dp + at(i, positions), first + i + 1, logSumRow, delta, scale)
      clear(p + at(i, positions), first + i + 1, columns)
      clear(dp + at(i, positions), first + i + 1, columns)
    }
    gemm(rows, headDim, columns, dp, positions, 1, k, width, 1, dq + at(first, outWidth), outWidth, 1, false, scratch)
    gemm(columns, headDim, rows, dp, 1, positions, qBlock, width, 1, dk, outWidth, 1, add, scratch)
    gemm(columns, headDim, rows, p, 1, positions, dOutBlock, outWidth, 1, dv, outWidth, 1, add, scratch)
  }
}

// @ts-ignore: decorator
@inline
function at(index: i32, stride: i32): usize {
  return (<usize>index * <usize>stride) << 2
}

// @ts-ignore: decorator
@inline
function clear(row: usize, from: i32, to: i32): void {
  memory.fill(row + (<usize>from << 2), 0, <usize>(to - from) << 2)
}

/** Turns n scores into probabilities in place; returns their log-sum-exp. */
function softmax(row: usize, n: i32): f32 {
  const end = row + (<usize>n << 2)
  const whole = row + (<usize>(n & ~3) << 2)
  let x = row
  let top: f32 = -f32.MAX_VALUE
  if (whole > row) {
    let top4 = v128.load(x)
    for (; x < whole; x += 16) top4 = f32x4.max(top4, v128.load(x))
    top = maxLanes(top4)
  }
  for (; x < end; x += 4) top = max(top, load<f32>(x))
  const top4 = f32x4.splat(top)
  let sum4 = f32x4.splat(0)
  for (x = row; x < whole; x += 16) {
    const e = exp4(f32x4.sub(v128.load(x), top4))
    sum4 = f32x4.add(sum4, e)
    v128.store(x, e)
  }
  let sum = sumLanes(sum4)
  for (; x < end; x += 4) {
    const e = exp1(load<f32>(x) - top)
    sum += e
    store<f32>(x, e)
  }
  const factor = <f32>1 / sum
  const factor4 = f32x4.splat(factor)
  for (x = row; x < whole; x += 16) v128.store(x, f32x4.mul(v128.load(x), factor4))
  for (; x < end; x += 4) store<f32>(x, load<f32>(x) * factor)
  return top + <f32>NativeMath.log(<f64>sum)
}

/** scores → probabilities, and their gradients → gradients of the unscaled scores, both in place. */
function softmaxBackward(p: usize, dp: usize, n: i32, logSum: f32, delta: f32, scale: f32): void {
  const end = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  const logSum4 = f32x4.splat(logSum), delta4 = f32x4.splat(delta), scale4 = f32x4.splat(scale)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const e = exp4(f32x4.sub(v128.load(p + i), logSum4))
    v128.store(p + i, e)
    v128.store(dp + i, f32x4.mul(f32x4.mul(f32x4.sub(v128.load(dp + i), delta4), e), scale4))
  }
  for (; i < end; i += 4) {
    const e = exp1(load<f32>(p + i) - logSum)
    store<f32>(p + i, e)
    store<f32>(dp + i, (load<f32>(dp + i) - delta) * e * scale)
  }
}

function dot(a: usize, b: usize, n: i32): f32 {
  const end = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  let sum4 = f32x4.splat(0)
  let i: usize = 0
  for (; i < whole; i += 16) sum4 = f32x4.add(sum4, f32x4.mul(v128.load(a + i), v128.load(b + i)))
  let sum = sumLanes(sum4)
  for (; i < end; i += 4) sum += load<f32>(a + i) * load<f32>(b + i)
  return sum
}
