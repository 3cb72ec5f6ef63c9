import { LayoutError } from '../errors.ts'
import { type DeviceFacts, devices as knownDevices } from './device-facts.ts'
import { isLegal } from './legality.ts'
import { trainingMemory } from './memory.ts'
import type { LayoutFlags } from './proposal.ts'
import type { TrainingShape } from './training-shape.ts'

export interface SmallestLayoutOptions extends Omit<TrainingShape, 'layout' | 'globalBatchSize'> {
  /** Default `devices.snt9b`. */
  readonly device?: DeviceFacts | undefined
  /** What holds besides: `useMcoreModels`, `replicateQueryGroups` and the like. */
  readonly flags?: LayoutFlags | undefined
}

export interface SmallestLayout {
  readonly tp: number
  readonly pp: number
  readonly nodes: number
  readonly devicesPerNode: number
}

/**
 * The layout of one replica on the fewest devices, a power of two, with the largest tp that stays in a node. By this
 * rule, with nothing recomputed, all 32 rows come out that the vendor's guide recommends.
 * @throws LayoutError when no layout on up to 512 devices fits.
 */
export function smallestLayout(options: SmallestLayoutOptions): SmallestLayout {
  const { model, seqLength, microBatchSize = 1, flags, device = knownDevices.snt9b } = options
  // As many positions as tokens: the guide trains with more than some models were made for (MAX_PE).
  const stretched = { ...model, maxPositionEmbeddings: seqLength }
  for (let count = 1; count <= 512; count *= 2)
    for (let tp = Math.min(count, device.perNode); tp >= 1; tp /= 2) {
      const layout = { tp, pp: count / tp }
      // Enough micro batches to keep every stage at work.
      const batch = { seqLength, microBatchSize, globalBatchSize: microBatchSize * 512 }
      const sequenceParallel = tp > 1 && (options.sequenceParallel ?? true)
      if (!isLegal({ model: stretched, layout, batch, flags: { ...flags, bf16: true, sequenceParallel } })) continue
      if (!trainingMemory({ ...options, layout, ...batch }, device).fits) continue
      const devicesPerNode = Math.min(count, device.perNode)
      return { ...layout, nodes: count / devicesPerNode, devicesPerNode }
    }
  throw new LayoutError(
    `No layout on up to 512 devices fits sequences of ${seqLength} tokens on ${device.name} devices.`,
    {
      hint: 'Use a smaller microBatchSize, recompute, or context parallelism.',
    },
  )
}
