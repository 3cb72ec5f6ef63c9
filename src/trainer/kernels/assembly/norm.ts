// RMSNorm: y = x · w / sqrt(mean(x²) + epsilon), over rows of n.
import { madd, sumLanes } from './vector'

/** Also writes each row's 1 / sqrt(mean(x²) + epsilon) to `inverse`, for the backward pass. */
export function rmsNorm(x: usize, weight: usize, y: usize, inverse: usize, rows: i32, n: i32, epsilon: f32): void {
  const rowBytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  for (let row = 0; row < rows; row++, x += rowBytes, y += rowBytes) {
    let squares = f32x4.splat(0)
    let i: usize = 0
    for (; i < whole; i += 16) {
      const value = v128.load(x + i)
      squares = madd(value, value, squares)
    }
    let sum = sumLanes(squares)
    for (; i < rowBytes; i += 4) sum += load<f32>(x + i) * load<f32>(x + i)
    const r = <f32>1 / sqrt<f32>(sum / <f32>n + epsilon)
    store<f32>(inverse + (<usize>row << 2), r)
    const factor = f32x4.splat(r)
    for (i = 0; i < whole; i += 16) {
      v128.store(y + i, f32x4.mul(f32x4.mul(v128.load(x + i), factor), v128.load(weight + i)))
    }
    for (; i < rowBytes; i += 4) store<f32>(y + i, load<f32>(x + i) * r * load<f32>(weight + i))
  }
}

/** dx (+)= r·(w·dy − x·r²·mean(w·dy·x)). */
export function rmsNormBackward(
  dy: usize, x: usize, weight: usize, inverse: usize, dx: usize, rows: i32, n: i32, accumulate: bool,
): void {
  const rowBytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  for (let row = 0; row < rows; row++, x += rowBytes, dy += rowBytes, dx += rowBytes) {
    let products = f32x4.splat(0)
    let i: usize = 0
    for (; i < whole; i += 16) {
      products = madd(f32x4.mul(v128.load(dy + i), v128.load(weight + i)), v128.load(x + i), products)
    }
    let sum = sumLanes(products)
    for (; i < rowBytes; i += 4) sum += load<f32>(dy + i) * load<f32>(weight + i) * load<f32>(x + i)
    const r = load<f32>(inverse + (<usize>row << 2))
    const pull = -r * r * r * sum / <f32>n
    const r4 = f32x4.splat(r), pull4 = f32x4.splat(pull)
    for (i = 0; i < whole; i += 16) {
      let d = madd(v128.load(x + i), pull4, f32x4.mul(f32x4.mul(v128.load(dy + i), v128.load(weight + i)), r4))
      if (accumulate) d = f32x4.add(v128.load(dx + i), d)
      v128.store(dx + i, d)
    }
    for (; i < rowBytes; i += 4) {
      const d = load<f32>(x + i) * pull + load<f32>(dy + i) * load<f32>(weight + i) * r
      store<f32>(dx + i, accumulate ? load<f32>(dx + i) + d : d)
    }
  }
}

/** dw += Σ over rows of dy·x·r, for the columns from `first` to `last` (a multiple of 4, or n). */
export function rmsNormWeightBackward(
  dy: usize, x: usize, inverse: usize, dWeight: usize, rows: i32, n: i32, first: i32, last: i32,
): void {
  const rowBytes = <usize>n << 2
  const end = <usize>last << 2
  const whole = <usize>(first + ((last - first) & ~3)) << 2
  for (let row = 0; row < rows; row++, x += rowBytes, dy += rowBytes) {
    const r = load<f32>(inverse + (<usize>row << 2))
    const r4 = f32x4.splat(r)
    let i = <usize>first << 2
    for (; i < whole; i += 16) {
      v128.store(dWeight + i, madd(f32x4.mul(v128.load(dy + i), v128.load(x + i)), r4, v128.load(dWeight + i)))
    }
    for (; i < end; i += 4) {
      store<f32>(dWeight + i, load<f32>(dWeight + i) + load<f32>(dy + i) * load<f32>(x + i) * r)
    }
  }
}
