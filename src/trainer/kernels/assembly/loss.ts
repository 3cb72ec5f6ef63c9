// Softmax cross-entropy over the vocabulary, with its gradient in place of the logits.
import { exp1, exp4, maxLanes, sumLanes } from './vector'

/**
 * Writes each row's loss (float64; 0 where the label is negative) and, when `scale` is not 0, turns the row's logits into
 * scale · (softmax − onehot), or zeros where the label is negative.
 */
export function crossEntropy(logits: usize, labels: usize, losses: usize, rows: i32, n: i32, scale: f32): void {
  const rowBytes = <usize>n << 2
  const whole = <usize>(n & ~3) << 2
  for (let row = 0; row < rows; row++, logits += rowBytes) {
    const label = load<i32>(labels + (<usize>row << 2))
    if (label < 0) {
      store<f64>(losses + (<usize>row << 3), 0)
      if (scale != 0) memory.fill(logits, 0, rowBytes)
      continue
    }
    let i: usize = 0
    let top: f32 = -f32.MAX_VALUE
    if (whole > 0) {
      let top4 = v128.load(logits)
      for (; i < whole; i += 16) top4 = f32x4.max(top4, v128.load(logits + i))
      top = maxLanes(top4)
    }
    for (; i < rowBytes; i += 4) top = max(top, load<f32>(logits + i))
    const target = logits + (<usize>label << 2)
    const atLabel = load<f32>(target)
    const top4 = f32x4.splat(top)
    let sum4 = f32x4.splat(0)
    for (i = 0; i < whole; i += 16) {
      const e = exp4(f32x4.sub(v128.load(logits + i), top4))
      sum4 = f32x4.add(sum4, e)
      v128.store(logits + i, e)
    }
    let sum = sumLanes(sum4)
    for (; i < rowBytes; i += 4) {
      const e = exp1(load<f32>(logits + i) - top)
      sum += e
      store<f32>(logits + i, e)
    }
    store<f64>(losses + (<usize>row << 3), NativeMath.log(<f64>sum) + (<f64>top - <f64>atLabel))
    if (scale == 0) continue
    const factor = scale / sum
    const factor4 = f32x4.splat(factor)
    for (i = 0; i < whole; i += 16) v128.store(logits + i, f32x4.mul(v128.load(logits + i), factor4))
    for (; i < rowBytes; i += 4) store<f32>(logits + i, load<f32>(logits + i) * factor)
    store<f32>(target, load<f32>(target) - scale)
  }
}
