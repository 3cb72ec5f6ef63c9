import { LayoutError } from '../errors.ts'
import { devices as knownDevices } from './device-facts.ts'
import { isLegal } from './legality.ts'
import { stageMemory } from './memory.ts'
import {
  type Candidate,
  eachCandidate,
  proposalOf,
  type SearchOptions,
  settleCandidate,
  sizesDivide,
} from './search-space.ts'
import type { Recompute, SettledTraining } from './training-shape.ts'
import { defaultEfficiency, settledTime } from './training-time.ts'

/** A legal layout that fits. */
export interface FoundLayout {
  readonly devices: number
  readonly tp: number
  readonly pp: number
  readonly cp: number
  readonly dp: number
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
 * Pipelines are even. Of recomputation the first mode that fits is taken, with the fewest layers, since more only costs
 * time. A full search for a model of 72 billion parameters on 512 devices takes some 50 ms.
 * @throws LayoutError when `devices` or `globalBatchSize` is no whole number from 1.
 */
export function searchLayouts(options: SearchOptions): LayoutSearch {
  for (const name of ['devices', 'globalBatchSize', 'seqLength'] as const)
    if (!Number.isSafeInteger(options[name]) || options[name] < 1)
      throw new LayoutError(`${name} is ${options[name]}; it must be a whole number from 1.`)
  const found: FoundLayout[] = []
  let candidates = 0
  let illegal = 0
  let tooLarge = 0
  eachCandidate(options, candidate => {
    candidates += 1
    if (!sizesDivide(options, candidate) || !isLegal(proposalOf(options, candidate))) illegal += 1
    else {
      const { layout } = weigh(options, candidate)
      if (layout) found.push(layout)
      else tooLarge += 1
    }
  })
  found.sort(byTime)
  return { found, pareto: paretoOf(found), candidates, illegal, tooLarge }
}

/** What a legal candidate comes to: a layout, or the least bytes by which it misses the device. */
export function weigh(
  options: SearchOptions,
  candidate: Candidate,
): { readonly layout?: FoundLayout; readonly overBytes: number } {
  const device = options.device ?? knownDevices.snt9b
  let overBytes = Number.POSITIVE_INFINITY
  for (const recompute of recomputeModes(options)) {
    const { training, bytes, needed } = lightest(options, candidate, { recompute, usableBytes: device.usableBytes })
    overBytes = Math.min(overBytes, bytes - device.usableBytes)
    if (bytes > device.usableBytes) continue
    const time = settledTime(training, device, options.efficiency ?? defaultEfficiency)
    const hours = (time.seconds * (options.iterations ?? 1)) / 3600
    const { devices, chunks, ...sizes } = candidate
    const { pricePerDeviceHour } = options
    return {
      overBytes,
      layout: {
        ...sizes,
        devices,
        dp: training.dp,
        ...(chunks === 1 ? {} : { layersPerVirtualStage: options.model.numLayers / (sizes.pp * chunks) }),
        recompute,
        ...needed,
        bytes,
        spareBytes: device.usableBytes - bytes,
        secondsPerIteration: time.seconds,
        tokensPerSecondPerDevice: time.tokensPerSecondPerDevice,
        hours,
        ...(pricePerDeviceHour === undefined ? {} : { price: hours * devices * pricePerDeviceHour }),
      },
    }
  }
  return { overBytes }
}

/** A mode of recomputation with the fewest layers so that the rest fits; with all where nothing does. */
function lightest(
  options: SearchOptions,
  candidate: Candidate,
  { recompute, usableBytes }: { readonly recompute: Recompute; readonly usableBytes: number },
) {
  const all = options.model.numLayers / (candidate.pp * candidate.chunks)
  const at = (recomputeNumLayers: number) => {
    const training = settleCandidate(options, candidate, { recompute, recomputeNumLayers })
    const needed = recompute === 'full' ? { recomputeNumLayers } : {}
    return { training, bytes: peakBytes(training), needed }
  }
  let found = at(all)
  // Memory falls with each layer, time grows.
  let [fewest, most] = recompute === 'full' && found.bytes <= usableBytes ? [1, all] : [all, all]
  while (fewest < most) {
    const middle = (fewest + most) >> 1
    const tried = at(middle)
    if (tried.bytes <= usableBytes) [found, most] = [tried, middle]
    else fewest = middle + 1
  }
  return found
}

/** Selective recomputation saves memory only where attention is not flash attention. */
function recomputeModes({ space = {}, flashAttention = true }: SearchOptions): readonly Recompute[] {
  return space.recompute ?? (flashAttention ? ['none', 'full'] : ['none', 'selective', 'full'])
}

function peakBytes(training: SettledTraining): number {
  const first = stageMemory(training, 0).bytes
  return training.pp === 1 ? first : Math.max(first, stageMemory(training, training.pp - 1).bytes)
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
