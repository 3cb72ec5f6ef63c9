import type { ParallelSizes } from './stage-weights.ts'

/**
 * What the numbers of layers in each stage and virtual stage come to, in the words in which a layout is asked for: nothing
 * for equal shares.
 */
export function stageSizes(
  stages: readonly (readonly (readonly number[])[])[],
): Pick<ParallelSizes, 'layersPerStage' | 'layersPerVirtualStage'> {
  const sizes = stages.map(([first = []]) => first.length)
  if (stages.some(chunks => chunks.length > 1)) return { layersPerVirtualStage: sizes[0]! }
  return new Set(sizes).size > 1 ? { layersPerStage: sizes } : {}
}
