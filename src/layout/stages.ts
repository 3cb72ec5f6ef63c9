import { LayoutError } from '../errors.ts'

export interface StageOptions {
  readonly numLayers: number
  readonly pp: number
  /** Layers of each stage, for uneven pipelines (`--num-layer-list`); default equal shares. */
  readonly layersPerStage?: readonly number[] | undefined
  /** `--num-layers-per-virtual-pipeline-stage`; default no virtual stages. Not with `layersPerStage`. */
  readonly layersPerVirtualStage?: number | undefined
}

/**
 * The global numbers of the layers that each pipeline stage holds, chunk by chunk: `stages[stage][chunk][localLayer]`.
 *
 * Without virtual stages every stage has one chunk. With them, chunk c of stage p holds the layers
 * `c * pp * v + p * v` to `… + v - 1`, where v is `layersPerVirtualStage`.
 * Source: ModelLink 1.1, tools/checkpoint/saver_megatron.py:579-584.
 * @throws LayoutError when the layers cannot be shared out so; the message names numbers that would do.
 */
export function stageLayers(options: StageOptions): readonly (readonly (readonly number[])[])[] {
  const { numLayers, pp, layersPerStage, layersPerVirtualStage } = options
  if (!isCount(numLayers) || !isCount(pp))
    throw new LayoutError(`${numLayers} layers in ${pp} stages: both must be whole numbers from 1.`)
  if (layersPerStage !== undefined && layersPerVirtualStage !== undefined) {
    throw new LayoutError('layersPerStage and layersPerVirtualStage exclude each other; give one of them.')
  }
  if (layersPerVirtualStage !== undefined) return virtualStages({ numLayers, pp, v: layersPerVirtualStage })
  const counts = layersPerStage ?? evenCounts(numLayers, pp)
  const total = counts.reduce((a, b) => a + b, 0)
  if (counts.length !== pp || total !== numLayers || !counts.every(isCount)) {
    throw new LayoutError(
      `layersPerStage [${counts}] must be ${pp} numbers from 1 that add up to ${numLayers} layers; they are ${counts.length} and add up to ${total}.`,
    )
  }
  let next = 0
  return counts.map(count => {
    next += count
    return [range(next - count, count)]
  })
}

/**
 * Layers of each stage, as equal as can be: the longer stages stand next to the last, which has the output layer, and
 * far from the first, which holds the most micro batches.
 */
export function balancedStages(numLayers: number, pp: number): readonly number[] {
  const short = Math.floor(numLayers / pp)
  const long = numLayers % pp
  return Array.from({ length: pp }, (_, stage) => (stage >= pp - 1 - long && stage < pp - 1 ? short + 1 : short))
}

function evenCounts(numLayers: number, pp: number): number[] {
  if (numLayers % pp !== 0) {
    const others = range(1, numLayers).filter(stages => numLayers % stages === 0)
    throw new LayoutError(
      `${numLayers} layers do not divide among pp ${pp}. pp ${others.join(', ')} would, or a layersPerStage list.`,
    )
  }
  return Array.from({ length: pp }, () => numLayers / pp)
}

function virtualStages({ numLayers, pp, v }: { numLayers: number; pp: number; v: number }): number[][][] {
  if (!isCount(v) || numLayers % (pp * v) !== 0) {
    const fits = numLayers % pp === 0 ? range(1, numLayers / pp).filter(size => (numLayers / pp) % size === 0) : []
    const hint =
      fits.length > 0
        ? `${fits.join(', ')} layers per virtual stage would.`
        : 'Choose a pp that divides the layers first.'
    throw new LayoutError(`${numLayers} layers do not divide into virtual stages of ${v} layers on pp ${pp}.`, { hint })
  }
  return range(0, pp).map(stage => range(0, numLayers / (pp * v)).map(chunk => range(chunk * pp * v + stage * v, v)))
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1
}

function range(start: number, length: number): number[] {
  return Array.from({ length }, (_, i) => start + i)
}
