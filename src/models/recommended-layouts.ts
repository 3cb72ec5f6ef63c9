/** Parallel sizes and devices that the vendor recommends for training a model with sequences of `seqLength` tokens. */
export interface RecommendedLayout {
  readonly seqLength: number
  readonly tp: number
  readonly pp: number
  readonly nodes: number
  readonly devicesPerNode: number
}

const small = alike({ tp: 4, pp: 1, nodes: 1, devicesPerNode: 4 })
const oneNode = alike({ tp: 8, pp: 1, nodes: 1, devicesPerNode: 8 })
const twoNodes = alike({ tp: 8, pp: 2, nodes: 2, devicesPerNode: 8 })
const large: readonly RecommendedLayout[] = [
  { seqLength: 4096, tp: 8, pp: 4, nodes: 4, devicesPerNode: 8 },
  { seqLength: 8192, tp: 8, pp: 8, nodes: 8, devicesPerNode: 8 },
]

/**
 * By model. Source: the vendor's guide to training on ModelArts (6.3.905), table 2, which has no rows for Qwen2 and
 * GLM-4. One row the stock toolchain refuses: glm3-6b has 2 query groups and tp is 4; see `WeightPlan` for the copies.
 */
export const recommendedLayouts: Readonly<Record<string, readonly RecommendedLayout[]>> = {
  'llama2-7b': small,
  'llama2-13b': oneNode,
  'llama2-70b': large,
  'llama3-8b': small,
  'llama3-70b': large,
  'qwen-7b': small,
  'qwen-14b': oneNode,
  'qwen-72b': large,
  'qwen1.5-7b': small,
  'qwen1.5-14b': oneNode,
  'qwen1.5-32b': twoNodes,
  'qwen1.5-72b': large,
  'yi-6b': small,
  'yi-34b': twoNodes,
  'glm3-6b': small,
  'baichuan2-13b': oneNode,
}

function alike(sizes: Omit<RecommendedLayout, 'seqLength'>): readonly RecommendedLayout[] {
  return [4096, 8192].map(seqLength => ({ seqLength, ...sizes }))
}
