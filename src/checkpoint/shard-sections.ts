import type { TensorInfo } from '../formats/tensor.ts'
import type { Rectangle, WeightPlan } from './weight-plan.ts'

/**
 * Consecutive rows of one shard, or of several that are read together: then the rectangles of all have the same rows of
 * the same tensors. Rows of other sections are none of it, so sections may be filled in any order, or at a time.
 */
export interface ShardSection {
  readonly shards: readonly { readonly rank: number; readonly rectangles: readonly Rectangle[] }[]
}

/**
 * Cuts the shards of a weight into sections of about `maxElements` read elements: first rows first, rank by rank. Ranks
 * that need the same rows (columns of them, or a copy) share sections.
 */
export function shardSections(
  shards: WeightPlan['shards'],
  maxElements = Number.POSITIVE_INFINITY,
): readonly ShardSection[] {
  const ranks = shards.map((_, rank) => rank)
  const isShared = shards.every(({ rectangles }) =>
    rectangles.every((it, i) => isSameRows(it, shards[0]!.rectangles[i])),
  )
  return (isShared ? [ranks] : ranks.map(rank => [rank])).flatMap(group => {
    const rowElements = (it: Rectangle) => it.columns * group.length
    const lists = group.map(rank => [...cutRectangles(shards[rank]!.rectangles, { maxElements, rowElements })])
    return lists[0]!.map((_, i) => ({
      shards: group.map((rank, member) => ({ rank, rectangles: lists[member]![i]! })),
    }))
  })
}

/** The one shard of a tensor that is not cut. */
export function wholeShard({ name, shape }: Pick<TensorInfo, 'name' | 'shape'>): WeightPlan['shards'][number] {
  const [rows = 1, columns = 1] = shape
  return { shape, rectangles: [{ tensor: name, row: 0, rows, column: 0, columns, shardRow: 0 }] }
}

function isSameRows(a: Rectangle, b: Rectangle | undefined): boolean {
  return a.tensor === b?.tensor && a.row === b.row && a.rows === b.rows
}

function* cutRectangles(
  rectangles: readonly Rectangle[],
  { maxElements, rowElements }: { maxElements: number; rowElements: (rectangle: Rectangle) => number },
): Generator<readonly Rectangle[]> {
  let section: Rectangle[] = []
  let elements = 0
  for (const rectangle of rectangles) {
    const ofRow = rowElements(rectangle)
    for (let done = 0; done < rectangle.rows; ) {
      const room = Math.max(1, Math.floor((maxElements - elements) / ofRow))
      const rows = Math.min(rectangle.rows - done, room)
      section.push({ ...rectangle, row: rectangle.row + done, rows, shardRow: rectangle.shardRow + done })
      done += rows
      elements += rows * ofRow
      if (elements + ofRow <= maxElements) continue
      yield section
      section = []
      elements = 0
    }
  }
  if (section.length > 0) yield section
}
