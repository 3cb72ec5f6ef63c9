import { LayoutError } from '../errors.ts'
import type { RowRange } from '../formats/row-reader.ts'
import type { Architecture } from '../models/architecture.ts'
import type { Dimension, WeightRule } from '../models/weight-rule.ts'

/**
 * What a Hugging Face tensor and a Megatron shard have in common: these rows and columns of `tensor` are the shard's
 * rows from `shardRow`, all its columns. A replica is there only where there are fewer key/value groups than ranks.
 */
export interface Rectangle extends RowRange {
  readonly tensor: string
  readonly shardRow: number
  /** Of padding only: how often the row is stored, one copy below another. */
  readonly copies?: number
}

/** One Megatron weight on every tensor-parallel rank: read one way it scatters, the other way it gathers. */
export interface WeightPlan {
  readonly rule: WeightRule
  /** The Hugging Face tensors, in the order in which they are stacked. */
  readonly parts: readonly { readonly name: string; readonly shape: readonly number[] }[]
  /** Rank by rank: shape, and rectangles that fill it from the first row to the last. */
  readonly shards: readonly { readonly shape: readonly number[]; readonly rectangles: readonly Rectangle[] }[]
}

/** The numbers that cut weights into shards. */
export interface ShardNumbers {
  readonly architecture: Architecture
  readonly tp: number
  readonly paddedVocabSize: number
  /** Rank of the adapters, for their rules. */
  readonly loraRank?: number | undefined
}

interface Run {
  /** Row in the stacked tensors. */
  readonly row: number
  readonly rows: number
  readonly shardRow: number
  readonly copies?: number
  readonly isReplica?: true
}

/**
 * Plans one weight of one layer (of the whole model when `layer` is undefined) for every tensor-parallel rank.
 *
 * Source: ModelLink 1.1, tools/checkpoint/loader_llama2_hf.py:119-178 (fusing), saver_megatron.py:321-342 (padding
 * repeats the last row) and its chunking; Megatron-LM core_r0.6.0 for which axis is cut.
 */
export function planWeight(rule: WeightRule, numbers: ShardNumbers & { layer?: number | undefined }): WeightPlan {
  const { tp } = numbers
  const height = dimension(rule.shape[0], numbers)
  const width = rule.shape[1] === undefined ? 1 : dimension(rule.shape[1], numbers)
  const shapeOf = (rows: number, columns: number): number[] => (rule.shape.length === 1 ? [rows] : [rows, columns])
  const heights = rule.hf.length === 1 ? [height] : sections(rule.shape[0], numbers)
  const parts = rule.hf.map((pattern, i) => ({
    name: layerName(pattern, numbers.layer),
    shape: shapeOf(heights[i]!, width),
  }))
  const columns = rule.split === 'row' ? width / tp : width
  const shards = Array.from({ length: tp }, (_, rank) => {
    const column = rule.split === 'row' ? rank * columns : 0
    const rectangles = shardRuns(rule, { ...numbers, rank, height }).flatMap(run =>
      splitRun(run, heights).map(
        ({ part, row, rows, shardRow }): Rectangle => ({
          tensor: parts[part]!.name,
          row,
          rows,
          column,
          columns,
          shardRow,
          ...(run.copies === undefined ? {} : { copies: run.copies }),
          ...(run.isReplica === undefined ? {} : { isReplica: run.isReplica }),
        }),
      ),
    )
    const last = rectangles.at(-1)!
    return { shape: shapeOf(last.shardRow + last.rows * (last.copies ?? 1), columns), rectangles }
  })
  return { rule, parts, shards }
}

/** A name pattern with `{i}` filled in. */
export function layerName(pattern: string, layer: number | undefined): string {
  return layer === undefined ? pattern : pattern.replace('{i}', String(layer))
}

/**
 * Refuses numbers of ranks that cannot share the model; throws LayoutError naming those that can. Fewer key/value
 * groups than ranks are possible when every group goes to a whole number of ranks, each with its own query heads.
 */
export function checkTensorParallel(numbers: ShardNumbers): void {
  const { architecture, tp, paddedVocabSize } = numbers
  const { numAttentionHeads, numQueryGroups, ffnHiddenSize, vocabSize } = architecture
  const fits = (ranks: number): boolean =>
    (numQueryGroups % ranks === 0 || (ranks % numQueryGroups === 0 && numAttentionHeads % ranks === 0)) &&
    ffnHiddenSize % ranks === 0
  if (!Number.isSafeInteger(tp) || tp < 1 || !fits(tp)) {
    const others = Array.from({ length: numAttentionHeads }, (_, i) => i + 1).filter(fits)
    throw new LayoutError(
      `tp ${tp} must share out the ${numAttentionHeads} heads in ${numQueryGroups} key/value groups and divide the feed-forward width ${ffnHiddenSize}. tp ${others.join(', ')} would.`,
    )
  }
  if (paddedVocabSize < vocabSize || paddedVocabSize % tp !== 0) {
    const least = Math.ceil(vocabSize / tp) * tp
    throw new LayoutError(
      `paddedVocabSize ${paddedVocabSize} must be a multiple of tp ${tp} and hold the vocabulary of ${vocabSize}; ${least} is the smallest.`,
    )
  }
}

function dimension(name: Dimension, numbers: ShardNumbers): number {
  return sections(name, numbers).reduce((a, b) => a + b, 0)
}

// The parts that a fused dimension is stacked from.
function sections(name: Dimension, { architecture, loraRank }: ShardNumbers): number[] {
  const { hiddenSize, ffnHiddenSize, numAttentionHeads, numQueryGroups, kvChannels, vocabSize } = architecture
  switch (name) {
    case 'vocab':
      return [vocabSize]
    case 'hidden':
      return [hiddenSize]
    case 'heads':
      return [numAttentionHeads * kvChannels]
    case 'head':
      return [kvChannels]
    case 'qkv':
      return [numAttentionHeads * kvChannels, numQueryGroups * kvChannels, numQueryGroups * kvChannels]
    case 'ffn':
      return [ffnHiddenSize]
    case 'gateUp':
      return [ffnHiddenSize, ffnHiddenSize]
    case 'rank':
      return [loraRank!]
  }
}

function shardRuns(rule: WeightRule, numbers: ShardNumbers & { rank: number; height: number }): Run[] {
  const { architecture, tp, rank, height } = numbers
  switch (rule.split) {
    case 'vocab': {
      const rows = numbers.paddedVocabSize / tp
      const real = Math.min(Math.max(height - rank * rows, 0), rows)
      return [
        ...(real > 0 ? [{ row: rank * rows, rows: real, shardRow: 0 }] : []),
        ...(real < rows ? [{ row: height - 1, rows: 1, shardRow: real, copies: rows - real }] : []),
      ]
    }
    case 'qkv':
      return groupRuns(architecture, { tp, rank })
    case 'gateUp': {
      const rows = architecture.ffnHiddenSize / tp
      return [0, 1].map(half => ({ row: half * architecture.ffnHiddenSize + rank * rows, rows, shardRow: half * rows }))
    }
    case 'fusedQkv':
      return fusedRuns(architecture, { tp, rank })
    case 'row':
    case 'replicated':
      return [{ row: 0, rows: height, shardRow: 0 }]
  }
}

// Group by group: its query heads, its key head, its value head. With more ranks than groups a rank has one part of a
// group's query heads, and its own copies of the key and value heads.
function groupRuns(architecture: Architecture, { tp, rank }: { tp: number; rank: number }): Run[] {
  const { numAttentionHeads, numQueryGroups, kvChannels } = architecture
  const ranksPerGroup = Math.max(1, tp / numQueryGroups)
  const queryRows = ((numAttentionHeads / numQueryGroups) * kvChannels) / ranksPerGroup
  const keys = numAttentionHeads * kvChannels
  const values = keys + numQueryGroups * kvChannels
  const shares = Math.max(1, numQueryGroups / tp)
  const replica = rank % ranksPerGroup === 0 ? {} : { isReplica: true as const }
  return Array.from({ length: shares }, (_, local) => {
    const share = rank * shares + local
    const group = Math.floor(share / ranksPerGroup)
    const shardRow = local * (queryRows + 2 * kvChannels)
    return [
      { row: share * queryRows, rows: queryRows, shardRow },
      { row: keys + group * kvChannels, rows: kvChannels, shardRow: shardRow + queryRows, ...replica },
      { row: values + group * kvChannels, rows: kvChannels, shardRow: shardRow + queryRows + kvChannels, ...replica },
    ]
  }).flat()
}

// The same of rows in which each group's query, key and value lie together already.
function fusedRuns(architecture: Architecture, { tp, rank }: { tp: number; rank: number }): Run[] {
  const { numAttentionHeads, numQueryGroups, kvChannels } = architecture
  const queryRows = (numAttentionHeads / numQueryGroups) * kvChannels
  const groupRows = queryRows + 2 * kvChannels
  if (numQueryGroups >= tp) {
    const rows = (numQueryGroups / tp) * groupRows
    return [{ row: rank * rows, rows, shardRow: 0 }]
  }
  const ranksPerGroup = tp / numQueryGroups
  const part = rank % ranksPerGroup
  const top = Math.floor(rank / ranksPerGroup) * groupRows
  const rows = queryRows / ranksPerGroup
  const replica = part === 0 ? {} : { isReplica: true as const }
  return [
    { row: top + part * rows, rows, shardRow: 0 },
    { row: top + queryRows, rows: 2 * kvChannels, shardRow: rows, ...replica },
  ]
}

// Cuts a run of stacked rows where one tensor ends and the next begins.
function splitRun(
  run: Run,
  heights: readonly number[],
): { part: number; row: number; rows: number; shardRow: number }[] {
  const pieces: { part: number; row: number; rows: number; shardRow: number }[] = []
  let top = 0
  for (const [part, height] of heights.entries()) {
    const from = Math.max(run.row, top)
    const to = Math.min(run.row + run.rows, top + height)
    if (from < to) pieces.push({ part, row: from - top, rows: to - from, shardRow: run.shardRow + from - run.row })
    top += height
  }
  return pieces
}
