import { checkLayout } from './legality.ts'
import type { StageOptions } from './stages.ts'

/** How a model is cut over devices: tensor, pipeline and context parallel sizes; each 1 when absent. */
export interface Parallel {
  readonly tp?: number | undefined
  readonly pp?: number | undefined
  readonly cp?: number | undefined
}

export interface ParallelLayout {
  readonly tp: number
  readonly pp: number
  readonly cp: number
  /** Data parallel size: `worldSize / (tp · pp · cp)`. */
  readonly dp: number
  /** Devices altogether. */
  readonly worldSize: number
}

/**
 * The layout of `worldSize` devices, data parallel size derived.
 * Source: Megatron-LM core_r0.6.0, megatron/training/arguments.py:150-175 (world size divisible by tp · pp · cp).
 * @throws LayoutError for a size that is no positive integer or a product that does not divide the world.
 */
export function parallelLayout(options: { readonly worldSize: number } & Parallel): ParallelLayout {
  const { worldSize, tp = 1, pp = 1, cp = 1 } = options
  checkLayout({ layout: { tp, pp, cp, worldSize } })
  return { tp, pp, cp, dp: worldSize / (tp * pp * cp), worldSize }
}

/** The numbers of a model that a layout must divide; an `Architecture` has them all. */
export interface DividedNumbers {
  readonly numLayers: number
  readonly ffnHiddenSize: number
  readonly numAttentionHeads: number
  readonly numQueryGroups: number
}

/**
 * Checks that a model can be cut tp × pp ways. With fewer query groups than tp, each group goes to tp / groups ranks:
 * the converter stores as many copies, and training runs with tp groups.
 * @throws LayoutError naming the number, the size that does not divide it, and the nearest sizes that do.
 */
export function checkModelLayout(
  model: DividedNumbers,
  parallel: Parallel & Omit<StageOptions, 'numLayers' | 'pp'>,
): void {
  const { tp = 1, pp = 1, layersPerStage, layersPerVirtualStage } = parallel
  const layout = { tp, pp, layersPerStage, layersPerVirtualStage }
  checkLayout({ model, layout, flags: { replicateQueryGroups: true } })
}
