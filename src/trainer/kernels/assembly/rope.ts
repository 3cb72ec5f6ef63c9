// Rotary position embedding in Hugging Face's half-rotation order: lane i is paired with lane i + headDim / 2.

/** cos and sin of position · base^(-2i / headDim), [positions, half]; computed here so that they do not depend on the host. */
export function ropeTables(cos: usize, sin: usize, positions: i32, half: i32, base: f64): void {
  for (let i = 0; i < half; i++) {
    const frequency = NativeMath.pow(base, -<f64>i / <f64>half)
    for (let position = 0; position < positions; position++) {
      const angle = <f64>position * frequency
      const offset = <usize>(position * half + i) << 2
      store<f32>(cos + offset, <f32>NativeMath.cos(angle))
      store<f32>(sin + offset, <f32>NativeMath.sin(angle))
    }
  }
}

/** Turns the first `heads` heads of each row (queries, then keys) in place. `row` is the first row's index in the batch. */
export function rope(x: usize, cos: usize, sin: usize, row: i32, rows: i32, width: i32, positions: i32, heads: i32, headDim: i32): void {
  const half = headDim >> 1
  for (let r = 0; r < rows; r++) {
    const table = <usize>(((row + r) % positions) * half) << 2
    for (let head = 0; head < heads; head++) {
      turn(x + (<usize>(head * headDim) << 2), cos + table, sin + table, half, 1)
    }
    x += <usize>width << 2
  }
}

/**
 * Gradient of the fused qkv row [heads + 2·groups heads] from per-query-head gradients of q, k and v [heads heads each]:
 * turns q and k back and adds the heads that share a group, in order.
 */
export function ropeBackward(
  dq: usize, dk: usize, dv: usize, dqkv: usize, cos: usize, sin: usize,
  row: i32, rows: i32, positions: i32, heads: i32, groups: i32, headDim: i32,
): void {
  const half = headDim >> 1
  const shared = heads / groups
  const headBytes = <usize>headDim << 2
  const inBytes = headBytes * heads
  const keys = headBytes * heads, values = headBytes * (heads + groups)
  for (let r = 0; r < rows; r++) {
    const table = <usize>(((row + r) % positions) * half) << 2
    memory.copy(dqkv, dq, inBytes)
    for (let head = 0; head < heads; head++) turn(dqkv + headBytes * head, cos + table, sin + table, half, -1)
    for (let group = 0; group < groups; group++) {
      const first = headBytes * shared * group
      sumHeads(dk + first, dqkv + keys + headBytes * group, shared, headBytes)
      turn(dqkv + keys + headBytes * group, cos + table, sin + table, half, -1)
      sumHeads(dv + first, dqkv + values + headBytes * group, shared, headBytes)
    }
    dq += inBytes
    dk += inBytes
    dv += inBytes
    dqkv += headBytes * (heads + 2 * groups)
  }
}

function turn(x: usize, cos: usize, sin: usize, half: i32, direction: f32): void {
  const end = <usize>half << 2
  const whole = <usize>(half & ~3) << 2
  const direction4 = f32x4.splat(direction)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const a = v128.load(x + i), b = v128.load(x + end + i)
    const c = v128.load(cos + i), s = f32x4.mul(v128.load(sin + i), direction4)
    v128.store(x + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)))
    v128.store(x + end + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)))
  }
  for (; i < end; i += 4) {
    const a = load<f32>(x + i), b = load<f32>(x + end + i)
    const c = load<f32>(cos + i), s = load<f32>(sin + i) * direction
    store<f32>(x + i, a * c - b * s)
    store<f32>(x + end + i, b * c + a * s)
  }
}

function sumHeads(from: usize, to: usize, count: i32, headBytes: usize): void {
  for (let i: usize = 0; i < headBytes; i += 4) {
    let sum = load<f32>(from + i)
    for (let head = 1; head < count; head++) sum += load<f32>(from + headBytes * head + i)
    store<f32>(to + i, sum)
  }
}
