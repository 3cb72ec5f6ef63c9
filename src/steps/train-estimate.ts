import type { Known } from '../flow/call.ts'
import type { Estimate, Premises } from '../flow/estimate.ts'
import { trainingMemory } from '../layout/memory.ts'
import { nearestLayout } from '../layout/nearest-layout.ts'
import { trainingPrice } from '../layout/price.ts'
import type { ModelShape, TrainingShape } from '../layout/training-shape.ts'
import { iterationTime } from '../layout/training-time.ts'
import type { Architecture } from '../models/architecture.ts'
import type { TrainInput } from './train-input.ts'
import { iterationsOf, scheduleOf } from './train-layout.ts'

/** What the training would take on NPUs; undefined while its layout or its model is not known. */
export function estimateTraining(known: Known<TrainInput>, premises: Premises): Estimate | undefined {
  const training = shapeOf(known)
  if (!training) return undefined
  const { device, efficiency, ...prices } = premises
  const { worldSize = 1 } = training.layout
  const { peak, usableBytes, fits } = trainingMemory(training, device)
  const { seconds, tokensPerSecondPerDevice } = iterationTime(training, device, { efficiency })
  const iterations = iterationsOf(known)
  const total = iterations && {
    ...{ ...prices, iterations, secondsPerIteration: seconds, devices: worldSize },
    saveInterval: scheduleOf(known, iterations).saveInterval,
  }
  const { pricePerDeviceHour } = premises
  const flags = { replicateQueryGroups: true, useMcoreModels: known.init?.layout === 'mcore' }
  const nearest = fits
    ? undefined
    : nearestLayout(training, {
        ...{ device, efficiency, iterations, pricePerDeviceHour, flags },
        // The embedded trainer has none of these, whatever its estimate is for.
        savings: known.toolchain !== undefined,
      })
  return {
    devices: worldSize,
    memory: { bytes: peak.bytes, usableBytes, fits, parts: { ...peak.parts } },
    ...(nearest ? { nearest } : {}),
    ...{ secondsPerIteration: seconds, tokensPerSecondPerDevice },
    ...(total ? { total: { iterations: total.iterations, ...trainingPrice(total) } } : {}),
  }
}

/** The numbers of a model that time and memory follow from; undefined while one is not known. */
export function modelShape(architecture: Known<Architecture> = {}): ModelShape | undefined {
  const { numLayers, hiddenSize, ffnHiddenSize, numAttentionHeads, numQueryGroups, kvChannels, vocabSize, ...rest } =
    architecture
  if (!numLayers || !hiddenSize || !ffnHiddenSize || !numAttentionHeads) return undefined
  if (!numQueryGroups || !kvChannels || !vocabSize) return undefined
  return { ...rest, numLayers, hiddenSize, ffnHiddenSize, numAttentionHeads, numQueryGroups, kvChannels, vocabSize }
}

function shapeOf(known: Known<TrainInput>): TrainingShape | undefined {
  const { init, parallel, nodes = 1, devicesPerNode, data, lora, dtype, seqLength } = known
  const { microBatchSize, globalBatchSize, maxPositionEmbeddings = init?.architecture?.maxPositionEmbeddings } = known
  const { tp = init?.tp, pp = init?.pp, cp = 1 } = parallel ?? {}
  const model = modelShape(init?.architecture)
  if (!tp || !pp || !model || !seqLength) return undefined
  const { layersPerStage, layersPerVirtualStage } = init ?? {}
  const worldSize = nodes * (devicesPerNode ?? Math.ceil((tp * pp * cp) / nodes))
  const { recompute, recomputeNumLayers, distributedOptimizer } = known
  return {
    model: { ...model, maxPositionEmbeddings },
    layout: { tp, pp, cp, worldSize, layersPerStage, layersPerVirtualStage },
    ...{ microBatchSize, globalBatchSize, seqLength, loraRank: lora?.r ?? undefined },
    task: lora ? 'lora' : data?.instruction ? 'sft' : 'pretrain',
    ...{ recompute, recomputeNumLayers, distributedOptimizer },
    precision: dtype === 'fp16' ? 'fp16' : 'bf16',
  }
}
