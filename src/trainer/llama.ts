import { linearBackward, linearForward, linearWeights } from './linear.ts'
import type { Rank } from './rank.ts'
import { type Span, split } from './sync.ts'

/**
 * Runs the model over the micro-batch in memory, as one of its ranks: losses per row, and with `scale` not 0 also the
 * gradients of scale · Σ losses, added to those held. Every rank must call it; it ends with all of them done.
 *
 * Between two barriers a rank either reads and writes its own rows only, or reads rows of others and writes what nobody
 * else touches. So results do not depend on the number of threads.
 */
export function runModel(rank: Rank, scale: number): void {
  const { arena } = rank
  const rows = split(arena.sizes.tokens, rank.index, rank)
  forward(rank, rows)
  headAndLoss(rank, rows, scale)
  if (scale !== 0) backward(rank, rows)
}

function forward(rank: Rank, rows: Span): void {
  const { kernels, arena } = rank
  const { sizes, weights, saved } = arena
  const { hidden, positions, heads, groups, headDim, qkv: width, epsilon } = sizes
  const row = (address: number, columns: number) => address + rows.first * columns * 4
  kernels.embed(row(arena.tokens, 1), weights.embedding.weight, row(saved[0]!.x, hidden), rows.count, hidden)
  for (const [i, layer] of weights.layers.entries()) {
    const { x, inputInverse, qkv, out, middle, postInverse, gateUp } = saved[i]!
    const next = saved[i + 1]?.x ?? arena.x
    const h = row(arena.h, hidden)
    kernels.rmsNorm(row(x, hidden), layer.inputNorm.weight, h, row(inputInverse, 1), rows.count, hidden, epsilon)
    linearForward(rank, layer.qkv, { x: arena.h, y: qkv, rows })
    if (layer.qkvBias) kernels.addBias(row(qkv, width), layer.qkvBias.weight, rows.count, width)
    kernels.rope(
      row(qkv, width),
      arena.cos,
      arena.sin,
      rows.first,
      rows.count,
      width,
      positions,
      heads + groups,
      headDim,
    )
    rank.barrier()
    attentionForward(rank, i)
    rank.barrier()
    kernels.copy(row(middle, hidden), row(x, hidden), rows.count * hidden)
    linearForward(rank, layer.proj, { x: out, y: middle, rows, accumulate: true })
    kernels.rmsNorm(row(middle, hidden), layer.postNorm.weight, h, row(postInverse, 1), rows.count, hidden, epsilon)
    linearForward(rank, layer.fc1, { x: arena.h, y: gateUp, rows })
    kernels.swiglu(row(gateUp, 2 * sizes.ffn), row(arena.act, sizes.ffn), rows.count, sizes.ffn)
    kernels.copy(row(next, hidden), row(middle, hidden), rows.count * hidden)
    linearForward(rank, layer.fc2, { x: arena.act, y: next, rows, accumulate: true })
  }
  const h = row(arena.h, hidden)
  const inverse = row(arena.finalInverse, 1)
  kernels.rmsNorm(row(arena.x, hidden), weights.finalNorm.weight, h, inverse, rows.count, hidden, epsilon)
  rank.barrier()
}

/** Logits, losses and gradient of the head, a block of rows at a time; leaves d(final norm's output) in `dh`. */
function headAndLoss(rank: Rank, rows: Span, scale: number): void {
  const { kernels, arena } = rank
  const { head, finalNorm } = arena.weights
  const { tokens, vocab, hidden } = arena.sizes
  for (let first = 0; first < tokens; first += arena.logitRows) {
    const count = Math.min(arena.logitRows, tokens - first)
    const part = split(count, rank.index, rank)
    const x = arena.h + first * hidden * 4
    linearForward(rank, head, { x, y: arena.logits, rows: part })
    const at = first + part.first
    const logits = arena.logits + part.first * vocab * 4
    kernels.crossEntropy(logits, arena.labels + at * 4, arena.losses + at * 8, part.count, vocab, scale)
    if (scale !== 0) {
      linearBackward(rank, head, { dy: arena.logits, dx: arena.dh + first * hidden * 4, rows: part })
      rank.barrier()
      linearWeights(rank, head, { dy: arena.logits, x, tokens: count })
    }
    rank.barrier()
  }
  if (scale === 0) return
  normWeights(rank, finalNorm.gradient, { x: arena.x, inverse: arena.finalInverse })
  normBackward(rank, rows, { weight: finalNorm.weight, x: arena.x, inverse: arena.finalInverse, accumulate: false })
  rank.barrier()
}

function backward(rank: Rank, rows: Span): void {
  const { kernels, arena } = rank
  const { sizes, weights, saved } = arena
  const { tokens, hidden, ffn, positions, heads, groups, headDim, queries, qkv: width, epsilon } = sizes
  const row = (address: number, columns: number) => address + rows.first * columns * 4
  for (let i = sizes.layers - 1; i >= 0; i--) {
    const layer = weights.layers[i]!
    const { x, inputInverse, qkv, out, middle, postInverse, gateUp } = saved[i]!
    const h = row(arena.h, hidden)

    linearBackward(rank, layer.fc2, { dy: arena.dx, dx: arena.act, rows })
    kernels.swigluBackward(row(gateUp, 2 * ffn), row(arena.act, ffn), rows.count, ffn)
    linearBackward(rank, layer.fc1, { dy: gateUp, dx: arena.dh, rows })
    kernels.rmsNorm(row(middle, hidden), layer.postNorm.weight, h, row(postInverse, 1), rows.count, hidden, epsilon)
    rank.barrier()
    linearWeights(rank, layer.fc2, { dy: arena.dx, x: arena.act, tokens })
    linearWeights(rank, layer.fc1, { dy: gateUp, x: arena.h, tokens })
    normWeights(rank, layer.postNorm.gradient, { x: middle, inverse: postInverse })
    rank.barrier()

    normBackward(rank, rows, { weight: layer.postNorm.weight, x: middle, inverse: postInverse, accumulate: true })
    linearBackward(rank, layer.proj, { dy: arena.dx, dx: arena.dOut, rows })
    rank.barrier()
    attentionBackward(rank, i)
    linearWeights(rank, layer.proj, { dy: arena.dx, x: out, tokens })
    rank.barrier()

    const [dq, dk, dv] = [row(arena.dq, queries), row(arena.dk, queries), row(arena.dv, queries)]
    const target = row(qkv, width)
    kernels.ropeBackward(
      ...([dq, dk, dv, target, arena.cos, arena.sin] as const),
      ...([rows.first, rows.count, positions, heads, groups, headDim] as const),
    )
    linearBackward(rank, layer.qkv, { dy: qkv, dx: arena.dh, rows })
    kernels.rmsNorm(row(x, hidden), layer.inputNorm.weight, h, row(inputInverse, 1), rows.count, hidden, epsilon)
    rank.barrier()
    linearWeights(rank, layer.qkv, { dy: qkv, x: arena.h, tokens })
    if (layer.qkvBias?.gradient !== undefined) {
      const { first, count } = split(width, rank.index, rank)
      kernels.sumRows(qkv, layer.qkvBias.gradient, tokens, width, first, first + count)
    }
    normWeights(rank, layer.inputNorm.gradient, { x, inverse: inputInverse })
    rank.barrier()
    normBackward(rank, rows, { weight: layer.inputNorm.weight, x, inverse: inputInverse, accumulate: true })
  }
  rank.barrier()
  const { gradient } = weights.embedding
  if (gradient !== undefined) {
    const { first, count } = split(hidden, rank.index, rank)
    kernels.embedBackward(arena.tokens, arena.dx, gradient, tokens, hidden, first, first + count)
  }
  rank.barrier()
}

interface Norm {
  readonly x: number
  readonly inverse: number
}

/** Adds to a norm's weight gradient from `dh`, this rank's columns. */
function normWeights(rank: Rank, gradient: number | undefined, { x, inverse }: Norm): void {
  if (gradient === undefined) return
  const { tokens, hidden } = rank.arena.sizes
  const { first, count } = split(hidden, rank.index, rank)
  rank.kernels.rmsNormWeightBackward(rank.arena.dh, x, inverse, gradient, tokens, hidden, first, first + count)
}

/** dx (+)= the norm's gradient of `dh`, this rank's rows. */
function normBackward(
  rank: Rank,
  rows: Span,
  norm: Norm & { readonly weight: number; readonly accumulate: boolean },
): void {
  const { kernels, arena } = rank
  const { hidden } = arena.sizes
  const offset = rows.first * hidden * 4
  kernels.rmsNormBackward(
    ...([arena.dh + offset, norm.x + offset, norm.weight, norm.inverse + rows.first * 4] as const),
    ...([arena.dx + offset, rows.count, hidden, norm.accumulate ? 1 : 0] as const),
  )
}

/** Calls `run` with the addresses of each head that is this rank's; `inner` is the first row in [tokens, queries]. */
function eachHead(
  rank: Rank,
  layer: number,
  run: (at: Record<'q' | 'k' | 'v' | 'inner' | 'logSum', number>) => void,
): void {
  const { batch, positions, heads, groups, headDim, queries, keys, qkv: width } = rank.arena.sizes
  const { qkv, logSum } = rank.arena.saved[layer]!
  const { first, count } = split(batch * heads, rank.index, { threads: rank.threads, unit: 1 })
  for (let unit = first; unit < first + count; unit++) {
    const sequence = Math.floor(unit / heads)
    const head = unit % heads
    const row = qkv + sequence * positions * width * 4
    const key = row + (queries + Math.floor((head * groups) / heads) * headDim) * 4
    run({
      q: row + head * headDim * 4,
      k: key,
      v: key + keys * 4,
      inner: (sequence * positions * queries + head * headDim) * 4,
      logSum: logSum + unit * positions * 4,
    })
  }
}

function attentionForward(rank: Rank, layer: number): void {
  const { kernels, arena, scratch } = rank
  const { positions, headDim, queries, qkv: width } = arena.sizes
  const { out } = arena.saved[layer]!
  const scale = 1 / Math.sqrt(headDim)
  eachHead(rank, layer, ({ q, k, v, inner, logSum }) => {
    kernels.attention(q, k, v, width, out + inner, queries, logSum, positions, headDim, scale, scratch)
  })
}

function attentionBackward(rank: Rank, layer: number): void {
  const { kernels, arena, scratch } = rank
  const { positions, headDim, queries, qkv: width } = arena.sizes
  const { out } = arena.saved[layer]!
  const scale = 1 / Math.sqrt(headDim)
  eachHead(rank, layer, ({ q, k, v, inner, logSum }) => {
    kernels.attentionBackward(
      ...([q, k, v, width, out + inner, arena.dOut + inner] as const),
      ...([arena.dq + inner, arena.dk + inner, arena.dv + inner, queries] as const),
      ...([logSum, positions, headDim, scale, scratch] as const),
    )
  })
}
