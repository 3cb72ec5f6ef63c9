// Bias, SwiGLU and embedding: forward and backward.
import { exp1, exp4 } from './vector'

/** y += bias, over rows of n. */
export function addBias(y: usize, bias: usize, rows: i32, n: i32): void {
  for (let row = 0; row < rows; row++, y += <usize>n << 2) addRow(y, bias, 0, n)
}

/** sum += Σ over rows of y, for the columns from `first` to `last` (a multiple of 4, or n). */
export function sumRows(y: usize, sum: usize, rows: i32, n: i32, first: i32, last: i32): void {
  for (let row = 0; row < rows; row++, y += <usize>n << 2) addRow(sum, y, first, last)
}

/** y = silu(gate) · up, where a row of `gateUp` is [gate, up], n each. */
export function swiglu(gateUp: usize, y: usize, rows: i32, n: i32): void {
  const rowBytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  const one = f32x4.splat(1)
  for (let row = 0; row < rows; row++, gateUp += rowBytes * 2, y += rowBytes) {
    const up = gateUp + rowBytes
    let i: usize = 0
    for (; i < whole; i += 16) {
      const g = v128.load(gateUp + i)
      const s = f32x4.div(g, f32x4.add(one, exp4(f32x4.neg(g))))
      v128.store(y + i, f32x4.mul(s, v128.load(up + i)))
    }
    for (; i < rowBytes; i += 4) {
      const g = load<f32>(gateUp + i)
      store<f32>(y + i, (g / (<f32>1 + exp1(-g))) * load<f32>(up + i))
    }
  }
}

/** In place: `gateUp` becomes its gradient, and `y`, which holds dy, becomes the forward result again. */
export function swigluBackward(gateUp: usize, y: usize, rows: i32, n: i32): void {
  const rowBytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  const one = f32x4.splat(1)
  for (let row = 0; row < rows; row++, gateUp += rowBytes * 2, y += rowBytes) {
    const up = gateUp + rowBytes
    let i: usize = 0
    for (; i < whole; i += 16) {
      const g = v128.load(gateUp + i), u = v128.load(up + i), d = v128.load(y + i)
      const sigmoid = f32x4.div(one, f32x4.add(one, exp4(f32x4.neg(g))))
      const s = f32x4.mul(g, sigmoid)
      const slope = f32x4.add(sigmoid, f32x4.mul(s, f32x4.sub(one, sigmoid)))
      v128.store(y + i, f32x4.mul(s, u))
      v128.store(gateUp + i, f32x4.mul(f32x4.mul(d, u), slope))
      v128.store(up + i, f32x4.mul(d, s))
    }
    for (; i < rowBytes; i += 4) {
      const g = load<f32>(gateUp + i), u = load<f32>(up + i), d = load<f32>(y + i)
      const sigmoid = <f32>1 / (<f32>1 + exp1(-g))
      const s = g * sigmoid
      store<f32>(y + i, s * u)
      store<f32>(gateUp + i, d * u * (sigmoid + s * (<f32>1 - sigmoid)))
      store<f32>(up + i, d * s)
    }
  }
}

/** Copies the row of each token. */
export function embed(tokens: usize, table: usize, x: usize, rows: i32, n: i32): void {
  const rowBytes = <usize>n << 2
  for (let row = 0; row < rows; row++, x += rowBytes) {
    memory.copy(x, table + <usize>load<i32>(tokens + (<usize>row << 2)) * rowBytes, rowBytes)
  }
}

/** Adds each row to its token's row, in order, for the columns from `first` to `last` (a multiple of 4, or n). */
export function embedBackward(tokens: usize, dx: usize, dTable: usize, rows: i32, n: i32, first: i32, last: i32): void {
  const rowBytes = <usize>n << 2
  for (let row = 0; row < rows; row++, dx += rowBytes) {
    addRow(dTable + <usize>load<i32>(tokens + (<usize>row << 2)) * rowBytes, dx, first, last)
  }
}

function addRow(to: usize, from: usize, first: i32, last: i32): void {
  const end = <usize>last << 2
  const whole = <usize>(first + ((last - first) & ~3)) << 2
  let i = <usize>first << 2
  for (; i < whole; i += 16) v128.store(to + i, f32x4.add(v128.load(to + i), v128.load(from + i)))
  for (; i < end; i += 4) store<f32>(to + i, load<f32>(to + i) + load<f32>(from + i))
}
