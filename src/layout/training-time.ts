import { LayoutError } from '../errors.ts'
import type { DeviceFacts } from './device-facts.ts'
import { rankPart } from './memory.ts'
import { adapterParameters, attentionWidths, rankParameters } from './memory-parameters.ts'
import { type ModelShape, type SettledTraining, settleTraining, type TrainingShape } from './training-shape.ts'

/** Time of one iteration, in seconds, by what passes it. */
export interface IterationTime {
  readonly seconds: number
  /** What the slowest stage computes for all micro batches. */
  readonly compute: number
  /** Tensor and context parallel messages of the slowest stage, not hidden. */
  readonly tensorParallel: number
  /** The pipeline's filling and emptying. */
  readonly bubble: number
  /** Reducing gradients over replicas, and gathering weights with the distributed optimizer. */
  readonly dataParallel: number
  /** The seed's figure: `globalBatchSize · seqLength / (devices · seconds)`. */
  readonly tokensPerSecondPerDevice: number
  /** Share of the devices' peak that the model's operations come to (MFU). */
  readonly modelFlopsUtilization: number
}

/**
 * Share of its peak that a device reaches while it computes: the median over ModelLink's published figures, which
 * `publishedThroughputs` lists and a test recomputes.
 */
export const defaultEfficiency = 0.64

/**
 * Floating-point operations of one iteration, forward and backward, without recomputation.
 * Attention counts as if it were not causal. Source: Megatron-LM core_r0.6.0, megatron/training/training.py,
 * `num_floating_point_operations`; Narayanan et al. 2021 (arXiv 2104.04473), section 5.1.
 */
export function iterationFlops(
  model: ModelShape,
  options: { readonly globalBatchSize: number; readonly seqLength: number; readonly paddedVocabSize?: number },
): number {
  const { globalBatchSize, seqLength, paddedVocabSize = model.vocabSize } = options
  const layers = model.numLayers * layerFlops(model, seqLength)
  return globalBatchSize * seqLength * 3 * (layers + 2 * model.hiddenSize * paddedVocabSize)
}

/** Operations of one layer's forward pass, per token. */
function layerFlops({ hiddenSize, ffnHiddenSize, ...model }: ModelShape, seqLength: number): number {
  const { query, keyValue } = attentionWidths({ hiddenSize, ffnHiddenSize, ...model }, 1)
  return 4 * hiddenSize * (query + keyValue) + 6 * hiddenSize * ffnHiddenSize + coreFlops(query, seqLength)
}

/** Operations of the attention core's forward pass, per token. */
const coreFlops = (query: number, seqLength: number) => 4 * query * seqLength

/**
 * Time of one iteration.
 *
 * `efficiency` (default `defaultEfficiency`) is the share of its peak that a device reaches while it computes;
 * messages and the bubble come on top, so it is above the MFU. Recomputation costs one more forward pass of what it
 * covers; LoRA saves the products for the gradients of frozen weights. The bubble is that of 1F1B, by the number of
 * chunks less with virtual stages: Narayanan et al. 2021, section 2.2.
 * @throws LayoutError for numbers that cannot be a layout.
 */
export function iterationTime(
  training: TrainingShape,
  device: DeviceFacts,
  { efficiency = defaultEfficiency }: { readonly efficiency?: number | undefined } = {},
): IterationTime {
  if (!(efficiency > 0 && efficiency <= 1))
    throw new LayoutError(`efficiency is ${efficiency}; it must be above 0 and at most 1.`)
  return settledTime(settleTraining(training), device, efficiency)
}

/** `iterationTime` of settled numbers. */
export function settledTime(training: SettledTraining, device: DeviceFacts, efficiency: number): IterationTime {
  const { model, pp, chunks, unlikeStages, microBatches, worldSize, globalBatchSize, seqLength } = training
  const messages = stageMessages(training, device)
  let slowest = 0
  let sum = 0
  let compute = 0
  for (const [index, stage] of unlikeStages.entries()) {
    const alike = (unlikeStages[index + 1] ?? pp) - stage
    const busy = stageFlops(training, stage) / (device.peakFlops * efficiency)
    const seconds = busy + messages * training.stageLayers(stage)
    if (seconds > slowest) compute = busy
    slowest = Math.max(slowest, seconds)
    sum += alike * seconds
  }
  const bubble = (sum - slowest) / chunks + pipelineMessages(training, device)
  const dataParallel = gradientSeconds(training, device)
  const seconds = microBatches * slowest + bubble + dataParallel
  const flops = iterationFlops(model, training)
  return {
    seconds,
    compute: microBatches * compute,
    tensorParallel: microBatches * (slowest - compute),
    bubble,
    dataParallel,
    tokensPerSecondPerDevice: (globalBatchSize * seqLength) / (worldSize * seconds),
    modelFlopsUtilization: flops / (worldSize * device.peakFlops * seconds),
  }
}

/** Operations of one micro batch on one rank of a stage, both passes. */
function stageFlops(training: SettledTraining, stage: number): number {
  const { model, tp, cp, pp, seqLength, microBatchSize, recompute, recomputeNumLayers, chunks } = training
  const layers = training.stageLayers(stage)
  const passes = training.lora === undefined ? 3 : 2
  const layer = layerFlops(model, seqLength)
  const twice = recompute === 'full' ? Math.min(layers, recomputeNumLayers * chunks) : 0
  const core = recompute === 'selective' ? layers * coreFlops(attentionWidths(model, 1).query, seqLength) : 0
  const output = stage === pp - 1 ? passes * 2 * model.hiddenSize * training.paddedVocabSize : 0
  return (seqLength * microBatchSize * (layer * (passes * layers + twice) + core + output)) / (tp * cp)
}

/** Seconds of tensor and context parallel messages, per layer and micro batch. */
function stageMessages(training: SettledTraining, device: DeviceFacts): number {
  const { model, tp, cp, seqLength, microBatchSize, recompute, sequenceParallel } = training
  const tokens = (seqLength * microBatchSize) / cp
  // Each of two blocks gathers and scatters in either pass; sequence parallelism gathers its input once more.
  const times = 8 + (sequenceParallel ? 2 : 0) + (recompute === 'full' ? 4 : 0)
  const width = (times * 2 * tokens * model.hiddenSize * (tp - 1)) / tp
  const { query, keyValue } = attentionWidths(model, tp)
  const exchanged = (2 * 2 * tokens * (2 * query + 2 * keyValue) * (cp - 1)) / cp
  return width / bandwidth(device, tp) + exchanged / bandwidth(device, tp * cp)
}

/** Seconds that pipeline messages take while the pipeline fills and empties; later ones are hidden. */
function pipelineMessages(training: SettledTraining, device: DeviceFacts): number {
  const { model, tp, cp, pp, worldSize, seqLength, microBatchSize, sequenceParallel } = training
  const message = (2 * seqLength * microBatchSize * model.hiddenSize) / cp / (sequenceParallel ? tp : 1)
  return (2 * (pp - 1) * message) / bandwidth(device, (2 * worldSize) / pp)
}

/** Seconds of one reduction of the fullest rank's gradients over replicas. */
function gradientSeconds(training: SettledTraining, device: DeviceFacts): number {
  const { model, tp, cp, dp, lora: rank, distributedOptimizer, fp32Gradients } = training
  const replicas = dp * cp
  if (replicas === 1) return 0
  let trained = 0
  for (const stage of training.unlikeStages) {
    const part = rankPart(training, stage)
    const own =
      rank === undefined ? rankParameters(model, part) : adapterParameters(model, { tp, layers: part.layers, rank })
    trained = Math.max(trained, own)
  }
  const gradient = fp32Gradients ? 4 : 2
  const bytes = (distributedOptimizer ? gradient + 2 : 2 * gradient) * trained
  return (bytes * (replicas - 1)) / replicas / bandwidth(device, tp * replicas)
}

/** Bandwidth within a group that spans `span` consecutive devices. */
const bandwidth = (device: DeviceFacts, span: number) =>
  span <= device.perNode ? device.nodeBandwidth : device.networkBandwidth

/**
 * The efficiency that explains measured throughputs of one setting: their median, less messages and bubble. Give it to
 * `iterationTime` for other layouts of the same family.
 * @param tokensPerSecondPerDevice Measured, one number a run or iteration.
 * @throws LayoutError when there is none, or when a run is faster than the device's peak or than its messages.
 */
export function learnEfficiency(
  tokensPerSecondPerDevice: readonly number[],
  { training, device }: { readonly training: TrainingShape; readonly device: DeviceFacts },
): number {
  const sorted = [...tokensPerSecondPerDevice].sort((a, b) => a - b)
  const measured = sorted[sorted.length >> 1]
  if (measured === undefined || !(measured > 0))
    throw new LayoutError('Efficiency needs at least one measured throughput above 0.')
  const settled = settleTraining(training)
  const seconds = (settled.globalBatchSize * settled.seqLength) / (settled.worldSize * measured)
  // Computing is all that efficiency scales, so two predictions tell it from the rest; the slowest stage may change
  // between them, so the answer is found by halving.
  let [low, high] = [1e-4, 1]
  const fastest = settledTime(settled, device, high).seconds
  if (fastest > seconds)
    throw new LayoutError(
      `${measured} tokens/s/p is ${seconds.toFixed(3)} s an iteration; at its peak a ${device.name} needs ${fastest.toFixed(3)} s.`,
    )
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2
    if (settledTime(settled, device, middle).seconds > seconds) low = middle
    else high = middle
  }
  return high
}
