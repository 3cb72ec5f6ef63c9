import type { EngineOptions } from './engine-options.ts'
import { type ModelWeights, placeWeights } from './parameters.ts'
import { type Sizes, sizesOf } from './sizes.ts'
import { controlBytes } from './sync.ts'

/** First byte of the arena, above the kernels' own tables (their `heapBase()` is 11 KiB). */
export const arenaStart = 65_536

/** Parts into which the gradients are cut for their norm: fixed, so that it does not depend on the threads. */
export const normSegments = 64

/** Bytes that the matrix kernel and the attention kernel need per thread; their `scratchBytes` says the same. */
export function scratchBytes(positions: number): number {
  return 589_952 + 64 * positions * 8
}

/** Logits held at once, in floats (16 MiB), but never fewer than 256 rows. */
const logitsAtOnce = 4 * 1024 * 1024

/** What the forward pass of a layer leaves for its backward pass, as addresses; z are the adapters' inner values. */
export interface SavedActivations {
  readonly x: number
  readonly inputInverse: number
  readonly qkv: number
  readonly out: number
  readonly logSum: number
  readonly middle: number
  readonly postInverse: number
  readonly gateUp: number
}

/** Every address of the engine's memory: a pure function of the options. */
export interface Arena {
  readonly sizes: Sizes
  readonly threads: number
  readonly weights: ModelWeights
  readonly saved: readonly SavedActivations[]
  readonly control: number
  /** float64 numbers: what a command needs and gives. */
  readonly numbers: number
  readonly norms: number
  readonly tokens: number
  readonly labels: number
  readonly losses: number
  readonly cos: number
  readonly sin: number
  /** Input of the final norm. */
  readonly x: number
  readonly finalInverse: number
  /** Output of a norm. */
  readonly h: number
  readonly act: number
  readonly dx: number
  readonly dh: number
  readonly dOut: number
  readonly dq: number
  readonly dk: number
  readonly dv: number
  readonly logits: number
  readonly logitRows: number
  readonly scratch: number
  readonly bytes: number
  /** Where the bytes go; adds up to `bytes`. */
  readonly parts: MemoryParts
}

export interface MemoryParts {
  /** Weights, and what training one takes: gradient and two moments. */
  readonly weights: number
  readonly training: number
  /** Kept from forward to backward, and working space of one layer. */
  readonly activations: number
  readonly logits: number
  /** Per-thread working space, control words, tables. */
  readonly threads: number
}

/** Lays out the engine's memory. `threads` is settled by the caller. */
export function planArena(options: EngineOptions, threads: number): Arena {
  const sizes = sizesOf(options)
  const { tokens, hidden, ffn, queries, qkv, heads, headDim, positions, vocab, layers } = sizes
  let end = arenaStart
  const take = (byteLength: number) => {
    const start = end
    end = Math.ceil((end + byteLength) / 64) * 64
    return start
  }
  const floats = (count: number) => take(count * 4)
  const control = take(controlBytes)
  const numbers = take(16 * 8)
  const norms = take(normSegments * 8)
  const cos = floats((positions * headDim) / 2)
  const sin = floats((positions * headDim) / 2)
  const scratch = end
  for (let rank = 0; rank < threads; rank++) take(scratchBytes(positions))
  const afterThreads = end

  const weights = placeWeights(options, sizes, end)
  end = weights.end
  const afterWeights = end

  const tokenIds = floats(tokens)
  const labels = floats(tokens)
  const losses = take(tokens * 8)
  const saved = Array.from({ length: layers }, () => ({
    x: floats(tokens * hidden),
    inputInverse: floats(tokens),
    qkv: floats(tokens * qkv),
    out: floats(tokens * queries),
    logSum: floats(sizes.batch * heads * positions),
    middle: floats(tokens * hidden),
    postInverse: floats(tokens),
    gateUp: floats(tokens * 2 * ffn),
  }))
  const arena = {
    x: floats(tokens * hidden),
    finalInverse: floats(tokens),
    h: floats(tokens * hidden),
    act: floats(tokens * ffn),
    dx: floats(tokens * hidden),
    dh: floats(tokens * hidden),
    dOut: floats(tokens * queries),
    dq: floats(tokens * queries),
    dk: floats(tokens * queries),
    dv: floats(tokens * queries),
  }
  const afterActivations = end
  const logitRows = Math.min(tokens, Math.max(256, Math.floor(logitsAtOnce / vocab / 64) * 64))
  const logits = floats(logitRows * vocab)
  return {
    ...arena,
    ...{ sizes, threads, weights, saved, control, numbers, norms, tokens: tokenIds, labels, losses },
    ...{ cos, sin, logits, logitRows, scratch, bytes: end },
    parts: {
      weights: weights.weightBytes,
      training: afterWeights - afterThreads - weights.weightBytes,
      activations: afterActivations - afterWeights,
      logits: end - afterActivations,
      threads: afterThreads,
    },
  }
}
