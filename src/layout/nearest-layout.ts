import type { DeviceFacts } from './device-facts.ts'
import type { LayoutFlags } from './proposal.ts'
import { type FoundLayout, searchLayouts } from './search.ts'
import type { SearchOptions } from './search-space.ts'
import type { TrainingShape } from './training-shape.ts'

export interface NearestLayoutOptions {
  readonly device: DeviceFacts
  /** Default `defaultEfficiency`. */
  readonly efficiency?: number | undefined
  readonly iterations?: number | undefined
  readonly pricePerDeviceHour?: number | undefined
  readonly flags?: LayoutFlags | undefined
  /** Whether sharing out the optimizer's state and recomputing may be proposed before other sizes; default false. */
  readonly savings?: boolean | undefined
  /** Default 512, or what the training has if that is more. */
  readonly mostDevices?: number | undefined
}

/**
 * The layout that fits and is nearest to a training that does not, all else being as it is: with `savings` the fastest of
 * the same sizes; then on the same devices that with the least changed tp and pp; where there is none, the same with a smaller micro batch; else the fastest on the
 * fewest devices that do. Even pipelines without virtual stages. Undefined where nothing fits.
 * @throws LayoutError for numbers that cannot be a layout.
 */
export function nearestLayout(training: TrainingShape, options: NearestLayoutOptions): FoundLayout | undefined {
  const { layout, microBatchSize = 1, recompute = 'none', distributedOptimizer = false } = training
  const { tp, pp, cp = 1, worldSize = tp * pp * cp } = layout
  const { globalBatchSize = (microBatchSize * worldSize) / (tp * pp * cp) } = training
  const { mostDevices = Math.max(512, worldSize), savings = false, ...premises } = options
  const within = (devices: number, space: SearchOptions['space']) =>
    searchLayouts({
      ...{ ...training, ...premises, globalBatchSize, devices },
      space: {
        ...{ cp: [cp], chunks: [1], recompute: [recompute], distributedOptimizer: [distributedOptimizer] },
        ...(training.sequenceParallel === undefined ? {} : { sequenceParallel: [training.sequenceParallel] }),
        ...space,
      },
    }).found.filter(({ layersPerStage }) => layersPerStage === undefined)
  if (savings) {
    const sizes = { deviceCounts: [worldSize], microBatchSize: [microBatchSize], tp: [tp], pp: [pp] }
    const choices = { recompute: ['none', 'selective', 'full'], distributedOptimizer: [false, true] } as const
    const [saving] = within(worldSize, { ...sizes, ...choices })
    if (saving) return saving
  }
  const smaller = Array.from({ length: microBatchSize - 1 }, (_, index) => microBatchSize - 1 - index)
  for (const batch of [microBatchSize, ...smaller]) {
    const found = within(worldSize, { deviceCounts: [worldSize], microBatchSize: [batch] })
    // Fastest first, and the sort is stable.
    const [nearest] = found.toSorted((a, b) => distance(a, { tp, pp }) - distance(b, { tp, pp }))
    if (nearest) return nearest
  }
  const larger = within(mostDevices, { microBatchSize: [microBatchSize] }).filter(({ devices }) => devices > worldSize)
  const fewest = Math.min(...larger.map(({ devices }) => devices))
  return larger.find(({ devices }) => devices === fewest)
}

/** How many doublings lie between two pairs of parallel sizes. */
function distance(a: { readonly tp: number; readonly pp: number }, b: { readonly tp: number; readonly pp: number }) {
  return Math.abs(Math.log2(a.tp / b.tp)) + Math.abs(Math.log2(a.pp / b.pp))
}
