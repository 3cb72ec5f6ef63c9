// Matrix product with packed panels. Element (i, j) is summed over k in an order that depends on k alone, so any split
// of the rows or columns of C over threads gives the same bits.
import { madd } from './vector'

const KC: i32 = 256
const MC: i32 = 64
const NC: i32 = 512

/** Bytes of scratch that `gemm` writes: packed A, packed B, one tile. */
export const GEMM_SCRATCH: i32 = (MC * KC + NC * KC + 32) * 4

/**
 * C = alpha·A·B, or C += alpha·A·B. A is [m, k], B is [k, n]; strides are in floats and one stride of each of A and B
 * is 1, so a transpose is only another pair of strides. C has rows `cRow` apart.
 */
export function gemm(
  m: i32, n: i32, k: i32,
  a: usize, aRow: i32, aCol: i32,
  b: usize, bRow: i32, bCol: i32,
  c: usize, cRow: i32,
  alpha: f32, accumulate: bool, scratch: usize,
): void {
  const packedA = scratch
  const packedB = scratch + <usize>(MC * KC * 4)
  const tile = packedB + <usize>(NC * KC * 4)
  for (let k0 = 0; k0 < k; k0 += KC) {
    const kc = min(KC, k - k0)
    const add = accumulate || k0 > 0
    for (let j0 = 0; j0 < n; j0 += NC) {
      const nc = min(NC, n - j0)
      packB(b + at(k0, bRow) + at(j0, bCol), bRow, bCol, kc, nc, packedB)
      for (let i0 = 0; i0 < m; i0 += MC) {
        const mc = min(MC, m - i0)
        packA(a + at(i0, aRow) + at(k0, aCol), aRow, aCol, mc, kc, packedA)
        for (let j = 0; j < nc; j += 8) {
          const panelB = packedB + at(j, kc)
          for (let i = 0; i < mc; i += 4) {
            const target = c + at(i0 + i, cRow) + (<usize>(j0 + j) << 2)
            multiply(packedA + at(i, kc), panelB, kc, target, cRow, min(4, mc - i), min(8, nc - j), alpha, add, tile)
          }
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function at(index: i32, stride: i32): usize {
  return (<usize>index * <usize>stride) << 2
}

/** One 4×8 tile of C from a panel of A ([k][4]) and one of B ([k][8]). */
function multiply(a: usize, b: usize, k: i32, c: usize, cRow: i32, rows: i32, columns: i32, alpha: f32, add: bool, tile: usize): void {
  let c00 = f32x4.splat(0), c01 = f32x4.splat(0)
  let c10 = f32x4.splat(0), c11 = f32x4.splat(0)
  let c20 = f32x4.splat(0), c21 = f32x4.splat(0)
  let c30 = f32x4.splat(0), c31 = f32x4.splat(0)
  const end = a + (<usize>k << 4)
  // Not unrolled: V8 then loads too far ahead and spills (measured at 31 instead of 41 GFLOP/s).
  while (a < end) {
    const b0 = v128.load(b), b1 = v128.load(b, 16)
    const x0 = v128.load32_splat(a)
    c00 = madd(x0, b0, c00)
    c01 = madd(x0, b1, c01)
    const x1 = v128.load32_splat(a, 4)
    c10 = madd(x1, b0, c10)
    c11 = madd(x1, b1, c11)
    const x2 = v128.load32_splat(a, 8)
    c20 = madd(x2, b0, c20)
    c21 = madd(x2, b1, c21)
    const x3 = v128.load32_splat(a, 12)
    c30 = madd(x3, b0, c30)
    c31 = madd(x3, b1, c31)
    a += 16
    b += 32
  }
  const scale = f32x4.splat(alpha)
  if (rows == 4 && columns == 8) {
    const stride = <usize>cRow << 2
    writeRow(c, c00, c01, scale, add)
    writeRow(c + stride, c10, c11, scale, add)
    writeRow(c + stride * 2, c20, c21, scale, add)
    writeRow(c + stride * 3, c30, c31, scale, add)
    return
  }
  writeRow(tile, c00, c01, scale, false)
  writeRow(tile + 32, c10, c11, scale, false)
  writeRow(tile + 64, c20, c21, scale, false)
  writeRow(tile + 96, c30, c31, scale, false)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const target = c + at(i, cRow) + (<usize>j << 2)
      const value = load<f32>(tile + (<usize>(i * 8 + j) << 2))
      store<f32>(target, add ? load<f32>(target) + value : value)
    }
  }
}

// @ts-ignore: decorator
@inline
function writeRow(c: usize, x0: v128, x1: v128, scale: v128, add: bool): void {
  let y0 = f32x4.mul(x0, scale), y1 = f32x4.mul(x1, scale)
  if (add) {
    y0 = f32x4.add(v128.load(c), y0)
    y1 = f32x4.add(v128.load(c, 16), y1)
  }
  v128.store(c, y0)
  v128.store(c, y1, 16)
}

function packA(a: usize, aRow: i32, aCol: i32, m: i32, k: i32, out: usize): void {
  for (let i = 0; i < m; i += 4) packPanel(a + at(i, aRow), aCol, aRow, k, min(4, m - i), out + at(i, k), 4)
}

function packB(b: usize, bRow: i32, bCol: i32, k: i32, n: i32, out: usize): void {
  for (let j = 0; j < n; j += 8) {
    const panel = out + at(j, k)
    packPanel(b + at(j, bCol), bRow, bCol, k, min(4, n - j), panel, 8)
    packPanel(b + at(j + 4, bCol), bRow, bCol, k, min(4, n - j - 4), panel + 16, 8)
  }
}

/** Writes `width` (at most 4; fewer leave zeros) lanes of k values each as [k][4], rows `step` floats apart. */
function packPanel(from: usize, kStride: i32, laneStride: i32, k: i32, width: i32, out: usize, step: i32): void {
  const stepBytes = <usize>step << 2
  let p = 0
  if (width == 4 && laneStride == 1) {
    const kBytes = <usize>kStride << 2
    for (; p < k; p++, from += kBytes, out += stepBytes) v128.store(out, v128.load(from))
  } else if (width == 4 && kStride == 1) {
    const lane = <usize>laneStride << 2
    for (; p + 4 <= k; p += 4, from += 16, out += stepBytes * 4) {
      const r0 = v128.load(from), r1 = v128.load(from + lane), r2 = v128.load(from + lane * 2), r3 = v128.load(from + lane * 3)
      const low01 = v128.shuffle<i32>(r0, r1, 0, 4, 1, 5), high01 = v128.shuffle<i32>(r0, r1, 2, 6, 3, 7)
      const low23 = v128.shuffle<i32>(r2, r3, 0, 4, 1, 5), high23 = v128.shuffle<i32>(r2, r3, 2, 6, 3, 7)
      v128.store(out, v128.shuffle<i64>(low01, low23, 0, 2))
      v128.store(out + stepBytes, v128.shuffle<i64>(low01, low23, 1, 3))
      v128.store(out + stepBytes * 2, v128.shuffle<i64>(high01, high23, 0, 2))
      v128.store(out + stepBytes * 3, v128.shuffle<i64>(high01, high23, 1, 3))
    }
  }
  const lanes = max(0, width)
  for (; p < k; p++, from += <usize>kStride << 2, out += stepBytes) {
    v128.store(out, f32x4.splat(0))
    for (let i = 0; i < lanes; i++) store<f32>(out + (<usize>i << 2), load<f32>(from + at(i, laneStride)))
  }
}
