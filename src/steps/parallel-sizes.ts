import { z } from 'zod'
import { checkPlaces, type MegatronLayout, type ParallelSizes as Sizes } from '../checkpoint/stage-weights.ts'
import type { Known } from '../flow/call.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import type { Architecture } from '../models/architecture.ts'

const size = z.number().int().positive()

/** How a checkpoint is cut; default one piece. */
export const ParallelSizes = z
  .strictObject({
    /** Tensor parallel size; default 1. With fewer query groups than that, each is stored several times. */
    tp: size.default(1),
    /** Pipeline parallel size; default 1. */
    pp: size.default(1),
    /** Layers of each stage (`--num-layer-list`); default equal shares. */
    layersPerStage: z.array(size).readonly().exactOptional(),
    /** Layers of a virtual stage (`--num-layers-per-virtual-pipeline-stage`); default no virtual stages. */
    layersPerVirtualStage: size.exactOptional(),
  })
  .default({ tp: 1, pp: 1 })

/** Throws LayoutError or UnsupportedError when a model that is known cannot be cut so. */
export function checkCut(
  model: Known<Architecture> | undefined,
  parallel: Known<Sizes>,
  layout?: MegatronLayout,
): void {
  // Steps foretell a model whole or not at all.
  const architecture = model as Architecture | undefined
  if (architecture === undefined) return
  const { tp, pp, layersPerStage, layersPerVirtualStage } = parallel
  checkModelLayout(architecture, { tp, pp, layersPerStage, layersPerVirtualStage })
  if (layout !== undefined) checkPlaces(architecture, layout)
}

/** The sizes of a checkpoint as a step's output has them: without fields that are undefined. */
export function sizesOf(from: Sizes): z.output<typeof ParallelSizes> {
  const { tp, pp, layersPerStage, layersPerVirtualStage } = from
  return {
    ...{ tp, pp },
    ...(layersPerStage === undefined ? {} : { layersPerStage }),
    ...(layersPerVirtualStage === undefined ? {} : { layersPerVirtualStage }),
  }
}

/** How something is cut, in words. */
export function sizesText({ tp, pp, layersPerStage, layersPerVirtualStage }: Sizes): string {
  return [
    ...[`tp ${tp}`, `pp ${pp}`],
    ...(layersPerStage === undefined ? [] : [`stages of ${layersPerStage.join(', ')} layers`]),
    ...(layersPerVirtualStage === undefined ? [] : [`virtual stages of ${layersPerVirtualStage} layers`]),
  ].join(' · ')
}
