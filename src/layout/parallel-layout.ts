import { LayoutError } from '../errors.ts'
import { type StageOptions, stageLayers } from './stages.ts'

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
  for (const [name, value] of Object.entries({ worldSize, tp, pp, cp }))
    if (!Number.isSafeInteger(value) || value < 1) throw new LayoutError(`${name} ${value} is not a positive integer.`)
  const product = tp * pp * cp
  if (worldSize % product !== 0) {
    const fits = (size: number) => worldSize % size === 0
    throw new LayoutError(`tp ${tp} × pp ${pp} × cp ${cp} = ${product} does not divide ${worldSize} devices.`, {
      hint: suggest(
        'pp',
        nearest(pp, value => fits(tp * value * cp)),
      ),
    })
  }
  return { tp, pp, cp, dp: worldSize / product, worldSize }
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
 * Source: Megatron-LM core_r0.6.0, core/transformer/transformer_config.py:271-290 (heads and query groups by tp),
 * core/utils.py:15-21 (ffn by tp), legacy/model/transformer.py:1343 (layers by pp).
 * @throws LayoutError naming the number, the size that does not divide it, and the nearest sizes that do.
 */
export function checkModelLayout(
  model: DividedNumbers,
  parallel: Parallel & Omit<StageOptions, 'numLayers' | 'pp'>,
): void {
  const { numLayers, ffnHiddenSize, numAttentionHeads, numQueryGroups } = model
  const { tp = 1, pp = 1, layersPerStage, layersPerVirtualStage } = parallel
  parallelLayout({ worldSize: tp * pp, tp, pp })
  const byTp: Record<string, (tp: number) => boolean> = {
    [`${numAttentionHeads} attention heads`]: size => numAttentionHeads % size === 0,
    [`${numQueryGroups} query groups`]: size => numQueryGroups % size === 0 || size % numQueryGroups === 0,
    [`${ffnHiddenSize} ffn hidden size`]: size => ffnHiddenSize % size === 0,
  }
  for (const [what, fits] of Object.entries(byTp)) {
    if (!fits(tp))
      throw new LayoutError(`tp ${tp} does not divide the model's ${what}.`, {
        hint: suggest(
          'tp',
          nearest(tp, size => Object.values(byTp).every(fits => fits(size))),
        ),
      })
  }
  if (layersPerStage !== undefined || layersPerVirtualStage !== undefined)
    stageLayers({ numLayers, pp, layersPerStage, layersPerVirtualStage })
  else if (numLayers % pp !== 0)
    throw new LayoutError(`pp ${pp} does not divide the model's ${numLayers} layers.`, {
      hint: suggest(
        'pp',
        nearest(pp, value => numLayers % value === 0),
      ),
    })
}

/** The nearest values below and above `value` for which `fits` holds. */
function nearest(value: number, fits: (value: number) => boolean): readonly number[] {
  const below = Array.from({ length: value - 1 }, (_, i) => value - 1 - i).find(fits)
  const above = Array.from({ length: 3 * value + 64 }, (_, i) => value + 1 + i).find(fits)
  return [below, above].filter(found => found !== undefined)
}

function suggest(name: string, values: readonly number[]): string | undefined {
  return values.length > 0 ? `${name} ${values.join(' or ')} would.` : undefined
}
