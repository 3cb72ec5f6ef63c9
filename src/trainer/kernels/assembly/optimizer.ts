// Global norm and AdamW over flat ranges of floats.

/** Σ x², in float64. */
export function sumSquares(x: usize, n: i32): f64 {
  const end = x + (<usize>n << 2)
  const whole = x + (<usize>(n & ~3) << 2)
  let low = f64x2.splat(0), high = f64x2.splat(0)
  for (; x < whole; x += 16) {
    const value = v128.load(x)
    const a = f64x2.promote_low_f32x4(value)
    const b = f64x2.promote_low_f32x4(v128.shuffle<i64>(value, value, 1, 1))
    low = f64x2.add(low, f64x2.mul(a, a))
    high = f64x2.add(high, f64x2.mul(b, b))
  }
  low = f64x2.add(low, high)
  let sum = f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1)
  for (; x < end; x += 4) sum += <f64>load<f32>(x) * <f64>load<f32>(x)
  return sum
}

/**
 * One AdamW update as `torch.optim.AdamW` does it, with gradients times `clip`; leaves the gradients zero.
 * The powers for the bias correction are taken here so that they do not depend on the host.
 */
export function adamw(
  w: usize, g: usize, m: usize, v: usize, n: i32, clip: f32,
  learningRate: f64, beta1: f64, beta2: f64, epsilon: f64, weightDecay: f64, step: f64,
): void {
  const keep = <f32>(1 - learningRate * weightDecay)
  const rate = <f32>(learningRate / (1 - NativeMath.pow(beta1, step)))
  const root = <f32>(1 / NativeMath.sqrt(1 - NativeMath.pow(beta2, step)))
  const b1 = <f32>beta1, c1 = <f32>(1 - beta1), b2 = <f32>beta2, c2 = <f32>(1 - beta2), tiny = <f32>epsilon
  const bytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  const clip4 = f32x4.splat(clip), keep4 = f32x4.splat(keep), rate4 = f32x4.splat(rate), root4 = f32x4.splat(root)
  const b14 = f32x4.splat(b1), c14 = f32x4.splat(c1), b24 = f32x4.splat(b2), c24 = f32x4.splat(c2), tiny4 = f32x4.splat(tiny)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const gradient = f32x4.mul(v128.load(g + i), clip4)
    const first = f32x4.add(f32x4.mul(v128.load(m + i), b14), f32x4.mul(gradient, c14))
    const second = f32x4.add(f32x4.mul(v128.load(v + i), b24), f32x4.mul(f32x4.mul(gradient, gradient), c24))
    v128.store(m + i, first)
    v128.store(v + i, second)
    v128.store(g + i, f32x4.splat(0))
    const step = f32x4.div(f32x4.mul(first, rate4), f32x4.add(f32x4.mul(f32x4.sqrt(second), root4), tiny4))
    v128.store(w + i, f32x4.sub(f32x4.mul(v128.load(w + i), keep4), step))
  }
  for (; i < bytes; i += 4) {
    const gradient = load<f32>(g + i) * clip
    const first = load<f32>(m + i) * b1 + gradient * c1
    const second = load<f32>(v + i) * b2 + gradient * gradient * c2
    store<f32>(m + i, first)
    store<f32>(v + i, second)
    store<f32>(g + i, 0)
    store<f32>(w + i, load<f32>(w + i) * keep - (first * rate) / (sqrt<f32>(second) * root + tiny))
  }
}

export function zero(x: usize, n: i32): void {
  memory.fill(x, 0, <usize>n << 2)
}

export function copy(to: usize, from: usize, n: i32): void {
  memory.copy(to, from, <usize>n << 2)
}
