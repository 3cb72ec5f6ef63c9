import { InputError } from '../errors.ts'
import type { RecommendedLayout } from './recommended-layouts.ts'
import { findModel } from './supported-model.ts'

export interface Recommendation extends Omit<RecommendedLayout, 'seqLength'> {
  /** The vendor's guide, table 2, or our own planner for the models that the table leaves out. */
  readonly source: 'guide' | 'planner'
}

type Sizes = readonly [tp: number, pp: number, nodes: number, devicesPerNode: number]

/**
 * For 4096 and 8192 tokens, by `smallestLayout` on 64 GB devices; a test recomputes them. By the same rule all rows of
 * the guide come out. For qwen2-72b at 4096 half as many devices do if two of each stage's layers are computed twice.
 */
const planned: Readonly<Record<string, readonly [Sizes, Sizes]>> = {
  'qwen2-0.5b': [
    [1, 1, 1, 1],
    [1, 1, 1, 1],
  ],
  'qwen2-1.5b': [
    [1, 1, 1, 1],
    [2, 1, 1, 2],
  ],
  'qwen2-7b': [
    [4, 1, 1, 4],
    [4, 1, 1, 4],
  ],
  'qwen2-72b': [
    [8, 8, 8, 8],
    [8, 8, 8, 8],
  ],
  'glm4-9b': [
    [2, 4, 1, 8],
    [2, 4, 1, 8],
  ],
}

/**
 * Parallel sizes and devices on which training the model `id` is known to fit, at `seqLength` tokens.
 * @throws InputError for a model that is not supported, or a length other than 4096 and 8192.
 */
export function recommended(id: string, seqLength: number): Recommendation {
  const row = findModel(id).recommendedLayouts.find(layout => layout.seqLength === seqLength)
  if (row) {
    const { seqLength: _, ...sizes } = row
    return { ...sizes, source: 'guide' }
  }
  const sizes = seqLength === 4096 ? planned[id]?.[0] : seqLength === 8192 ? planned[id]?.[1] : undefined
  if (sizes === undefined)
    throw new InputError(`There is a recommendation for 4096 and 8192 tokens; seqLength is ${seqLength}.`)
  const [tp, pp, nodes, devicesPerNode] = sizes
  return { tp, pp, nodes, devicesPerNode, source: 'planner' }
}
