import { microBatch, type Samples } from './batches.ts'
import type { Engine } from './engine.ts'

export interface EvaluationOptions {
  readonly evalIters: number
  readonly globalBatchSize: number
  readonly microBatchSize: number
  readonly seqLength: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Loss over the first `evalIters` global batches, as Megatron averages it: the mean of each micro-batch's mean loss.
 *
 * Micro-batches without a single label are left out. Weights, moments and gradients stay as they are.
 * Gives undefined soon after the signal, and where no sample has a label.
 */
export async function evaluateSamples(
  engine: Engine,
  samples: Samples,
  options: EvaluationOptions,
): Promise<number | undefined> {
  const microBatches = (options.evalIters * options.globalBatchSize) / options.microBatchSize
  let sum = 0
  let counted = 0
  for (let i = 0; i < microBatches; i++) {
    if (options.signal?.aborted) return undefined
    const { tokens, labels } = microBatch(samples, i * options.microBatchSize, options)
    const { loss, count } = await engine.evaluate(tokens, labels)
    if (count === 0) continue
    sum += loss / count
    counted++
  }
  return counted === 0 ? undefined : sum / counted
}
