import type { Architecture } from '../../src/models/architecture.ts'
import type { Engine } from '../../src/trainer/engine.ts'
import type { EngineOptions } from '../../src/trainer/engine-options.ts'
import type { Parameter } from '../../src/trainer/parameter.ts'

/** One run of fixtures/training-runs.json, as fixtures/make.py defines it. */
export interface ReferenceRun {
  readonly title: string
  readonly config: Architecture &
    Pick<EngineOptions, 'microBatchSize' | 'seqLength' | 'lora'> & {
      readonly microBatches: number
      readonly steps: number
      readonly learningRate: number
      readonly weightDecay: number
      readonly clipGrad: number
      readonly masked?: boolean
    }
  readonly losses: readonly number[]
  readonly gradNorms: readonly number[]
  readonly weightSums: Readonly<Record<string, number>>
}

/** Hashes (uint32) of stream · 2^20 + index: murmur3's finalizer. */
export function mix(stream: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, index) => {
    let x = (stream * 2 ** 20 + index) >>> 0
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
    return x ^ (x >>> 16)
  })
}

/** In [-0.5, 0.5), exact in float32. */
export function uniform(stream: number, count: number): Float64Array {
  return Float64Array.from(mix(stream, count), x => (x >>> 8) / 2 ** 24 - 0.5)
}

export function engineOptions({ config }: ReferenceRun): EngineOptions {
  const { microBatchSize, seqLength, lora, ...architecture } = config
  return { architecture, microBatchSize, seqLength, ...(lora && { lora }) }
}

/** Fills all parameters; the stream is the position of the name in the reference's list, which is ours. */
export function fillParameters(parameters: readonly Parameter[]): void {
  for (const [i, { name, weight }] of parameters.entries()) {
    const center = name.endsWith('norm.weight') ? 1 : 0
    weight.set(uniform(i + 1, weight.length).map(x => x * 0.25 + center))
  }
}

export function batchOf({ config }: ReferenceRun, index: number): { tokens: Int32Array; labels: Int32Array } {
  const { microBatchSize: rows, seqLength: columns, vocabSize } = config
  const ids = mix(1000 + index, rows * (columns + 1))
  const tokens = new Int32Array(rows * columns)
  const labels = new Int32Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    const hidden = config.masked ? (mix(2000 + index, rows)[row]! % columns) + 1 : 0
    for (let column = 0; column < columns; column++) {
      const at = row * (columns + 1) + column
      const masked = config.masked && (column < hidden || index % 5 === 3)
      tokens[row * columns + column] = ids[at]! % vocabSize
      labels[row * columns + column] = masked ? -100 : ids[at + 1]! % vocabSize
    }
  }
  return { tokens, labels }
}

/** Trains as the reference did; `steps` may be fewer. */
export async function trainRun(
  engine: Engine,
  run: ReferenceRun,
  steps: number = run.config.steps,
): Promise<{ losses: number[]; gradNorms: number[] }> {
  const { microBatches, learningRate, weightDecay, clipGrad } = run.config
  const losses: number[] = []
  const gradNorms: number[] = []
  for (let step = 1, index = 0; step <= steps; step++) {
    for (let micro = 0; micro < microBatches; micro++, index++) {
      const { tokens, labels } = batchOf(run, index % 5)
      losses.push((await engine.accumulate(tokens, labels, { scale: 1 / microBatches })).loss)
    }
    const rate = learningRate * Math.min(1, step / 5)
    const options = { learningRate: rate, step, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay, clipGrad }
    gradNorms.push((await engine.update(options)).gradNorm)
  }
  return { losses, gradNorms }
}
