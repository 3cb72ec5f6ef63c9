import { normSegments } from './arena.ts'
import { places, type Rank } from './rank.ts'
import { split } from './sync.ts'

/** Clips and applies AdamW as one of the ranks; the gradients are zero afterwards. Weights stay when the norm is not finite. */
export function updateWeights(rank: Rank): void {
  const { kernels, arena, numbers } = rank
  const { decaying, steady, stride } = arena.weights
  const norm = gradientNorm(rank)
  if (rank.index === 0) numbers[places.gradNorm] = norm
  const read = (name: keyof typeof places) => numbers[places[name]]!
  // Megatron's clip_grad_norm_fp32: coefficient = max / (norm + 1e-6), applied when below 1.
  const coefficient = read('clipGrad') / (norm + 1e-6)
  const clip = read('clipGrad') > 0 && coefficient < 1 ? coefficient : 1
  for (const run of [decaying, steady]) {
    const { first, count } = split(run.floats, rank.index, rank)
    const w = run.address + first * 4
    if (!Number.isFinite(norm)) {
      kernels.zero(w + stride, count)
      continue
    }
    kernels.adamw(
      ...([w, w + stride, w + 2 * stride, w + 3 * stride, count, clip, read('learningRate')] as const),
      ...([read('beta1'), read('beta2'), read('epsilon')] as const),
      ...([run === decaying ? read('weightDecay') : 0, read('step')] as const),
    )
  }
  rank.barrier()
}

/** The same for every rank and every number of ranks: fixed segments, added in order. */
function gradientNorm(rank: Rank): number {
  const { kernels, arena } = rank
  const { decaying, steady, stride } = arena.weights
  const floats = decaying.floats + steady.floats
  const length = Math.ceil(floats / normSegments / 4) * 4
  const sums = new Float64Array(rank.numbers.buffer, arena.norms, normSegments)
  const { first, count } = split(normSegments, rank.index, { threads: rank.threads, unit: 1 })
  for (let segment = first; segment < first + count; segment++) {
    const start = Math.min(floats, segment * length)
    sums[segment] = kernels.sumSquares(decaying.address + stride + start * 4, Math.min(length, floats - start))
  }
  rank.barrier()
  return Math.sqrt(sums.reduce((a, b) => a + b, 0))
}
