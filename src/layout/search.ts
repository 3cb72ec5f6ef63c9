import { LayoutError } from '../errors.ts'
import { devices as knownDevices } from './device-facts.ts'
import { isLegal } from './legality.ts'
import { stageMemory } from './memory.ts'
import { type Candidate, eachCandidate, proposing, type SearchOptions, settling, sizesDivide } from './search-space.ts'
import { balancedStages } from './stages.ts'
import type { Recompute, SettledTraining } from './training-shape.ts'
import { defaultEfficiency, settledTime } from './training-time.ts'

/** A legal layout that fits. */
export interface FoundLayout {
  readonly devices: number
  readonly tp: number
  readonly pp: number
  readonly cp: number
  readonly dp: number
  /** `--num-layer-list`; absent where pp divides the layers. */
  readonly layersPerStage?: readonly number[]
  /** `--num-layers-per-virtual-pipeline-stage`; absent without virtual stages. */
  readonly layersPerVirtualStage?: number
  readonly microBatchSize: number
  readonly sequenceParallel: boolean
  readonly distributedOptimizer: boolean
  readonly recompute: Recompute
  /** Layers of each stage (of each chunk) that `full` recomputes; absent with other modes. */
  readonly recomputeNumLayers?: number
  /** Bytes on the fullest rank, margin included, and what the device has left. */
  readonly bytes: number
  readonly spareBytes: number
  readonly secondsPerIteration: number
  readonly tokensPerSecondPerDevice: number
  /** Of all iterations. */
  readonly hours: number
  /** Of all iterations, in the currency of `pricePerDeviceHour`; absent without it. */
  readonly price?: number
}

export interface LayoutSearch {
  /** All that fit, the fastest first; of equally fast ones that with fewer devices, then more memory left. */
  readonly found: readonly FoundLayout[]
  /** Those that no other beats: none has fewer devices without being slower, nor is cheaper. Fewest devices first. */
  readonly pareto: readonly FoundLayout[]
  /** How many candidates had sizes that divide, and how many of those the toolchain refuses or do not fit. */
  readonly candidates: number
  readonly illegal: number
  readonly tooLarge: number
}

/**
 * All legal layouts of a training on up to `devices` devices that fit in memory, by the time of an iteration.
 *
 * Of recomputation the first mode that fits is taken, with the fewest layers, since more only costs
 * time. A full search for a model of 72 billion parameters on 512 devices takes some 50 ms once it is warm.
 * @throws LayoutError when `devices` or `globalBatchSize` is no whole number from 1.
 */
export function searchLayouts(options: SearchOptions): LayoutSearch {
  for (const name of ['devices', 'globalBatchSize', 'seqLength'] as const)
    if (!Number.isSafeInteger(options[name]) || options[name] < 1)
      throw new LayoutError(`${name} is ${options[name]}; it must be a whole number from 1.`)
  const found: FoundLayout[] = []
  const propose = proposing(options)
  const weigh = weighing(options)
  let candidates = 0
  let illegal = 0
  let tooLarge = 0
  eachCandidate(options, candidate => {
    candidates += 1
    if (!sizesDivide(options, candidate) || !isLegal(propose(candidate))) illegal += 1
    else {
      const layout = weigh(candidate)
      if (layout) found.push(layout)
      else tooLarge += 1
    }
  })
  found.sort(byTime)
  return { found, pareto: paretoOf(found), candidates, illegal, tooLarge }
}

/** Makes of a legal candidate a layout; undefined where it does not fit. */
function weighing(options: SearchOptions): (candidate: Candidate) => FoundLayout | undefined {
  const { model, device = knownDevices.snt9b, efficiency = defaultEfficiency } = options
  const { iterations = 1, pricePerDeviceHour } = options
  const settle = settling(options)
  const modes = recomputeModes(options)
  // What a device holds at rest depends on few of the numbers, and rules out most candidates.
  const hopeless = new Map<string, boolean>()
  return candidate => {
    const { devices, tp, pp, cp, chunks, microBatchSize, sequenceParallel, distributedOptimizer } = candidate
    const held = `${tp} ${pp} ${distributedOptimizer && devices}`
    let tooMuch = hopeless.get(held)
    if (tooMuch === undefined) {
      tooMuch = bytesAtRest(settle(candidate, { recompute: 'full' })) > device.usableBytes
      hopeless.set(held, tooMuch)
    }
    if (tooMuch) return undefined
    for (const recompute of modes) {
      const least = leastAgain(recompute, Math.ceil(model.numLayers / (pp * chunks)), recomputeNumLayers =>
        bytesWithin(settle(candidate, { recompute, recomputeNumLayers }), device.usableBytes),
      )
      if (least === undefined) continue
      const training = settle(candidate, { recompute, recomputeNumLayers: least.recomputeNumLayers })
      const { seconds, tokensPerSecondPerDevice } = settledTime(training, device, efficiency)
      const hours = (seconds * iterations) / 3600
      const layout: Writable<FoundLayout> = {
        devices,
        tp,
        pp,
        cp,
        dp: training.dp,
        microBatchSize,
        sequenceParallel,
        distributedOptimizer,
        recompute,
        bytes: least.bytes,
        spareBytes: device.usableBytes - least.bytes,
        secondsPerIteration: seconds,
        tokensPerSecondPerDevice,
        hours,
      }
      if (model.numLayers % pp !== 0) layout.layersPerStage = balancedStages(model.numLayers, pp)
      if (chunks > 1) layout.layersPerVirtualStage = model.numLayers / (pp * chunks)
      if (recompute === 'full') layout.recomputeNumLayers = least.recomputeNumLayers
      if (pricePerDeviceHour !== undefined) layout.price = hours * devices * pricePerDeviceHour
      return layout
    }
    return undefined
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * The fewest layers so that the rest fits, of a mode that takes a number of them; undefined where it does not fit even
 * with all.
 */
function leastAgain(
  recompute: Recompute,
  layers: number,
  bytesWith: (recomputeNumLayers: number) => number | undefined,
): { readonly recomputeNumLayers: number; readonly bytes: number } | undefined {
  let bytes = bytesWith(layers)
  if (bytes === undefined) return undefined
  // Memory falls with each layer, time grows.
  let [fewest, most] = recompute === 'full' ? [1, layers] : [layers, layers]
  while (fewest < most) {
    const middle = (fewest + most) >> 1
    const tried = bytesWith(middle)
    if (tried === undefined) fewest = middle + 1
    else [bytes, most] = [tried, middle]
  }
  return { recomputeNumLayers: most, bytes }
}

/** Bytes on the fullest rank of a candidate with the mode of recomputation that takes the least. */
export function leastBytes(options: SearchOptions, candidate: Candidate): number {
  const settle = settling(options)
  return Math.min(
    ...recomputeModes(options).map(
      recompute => bytesWithin(settle(candidate, { recompute }), Number.POSITIVE_INFINITY)!,
    ),
  )
}

/** Bytes on the fullest rank; undefined where they are more than `usableBytes`. */
function bytesWithin(training: SettledTraining, usableBytes: number): number | undefined {
  let most = 0
  for (const stage of training.unlikeStages) {
    const { bytes } = stageMemory(training, stage)
    if (bytes > usableBytes) return undefined
    most = Math.max(most, bytes)
  }
  return most
}

/** Less than any training with these parallel sizes and this optimizer takes, on the fullest rank. */
function bytesAtRest(training: SettledTraining): number {
  const stages = training.unlikeStages.map(stage => stageMemory(training, stage).parts)
  return Math.max(...stages.map(parts => parts.weights + parts.gradients + parts.optimizer + parts.framework))
}

/** Selective recomputation saves memory only where attention is not flash attention. */
function recomputeModes({ space = {}, flashAttention = true }: SearchOptions): readonly Recompute[] {
  return space.recompute ?? (flashAttention ? ['none', 'full'] : ['none', 'selective', 'full'])
}

const byTime = (a: FoundLayout, b: FoundLayout) =>
  a.secondsPerIteration - b.secondsPerIteration || a.devices - b.devices || b.spareBytes - a.spareBytes

/** Price is devices by time, so whatever no other beats in these two no other beats in all three. */
function paretoOf(fastestFirst: readonly FoundLayout[]): readonly FoundLayout[] {
  let fewest = Number.POSITIVE_INFINITY
  const kept: FoundLayout[] = []
  for (const layout of fastestFirst) {
    if (layout.devices >= fewest) continue
    fewest = layout.devices
    kept.push(layout)
  }
  return kept.reverse()
}
