import { UnsupportedError } from '../errors.ts'
import type { stageLayers } from '../layout/stages.ts'
import type { Architecture } from '../models/architecture.ts'
import { weightRules } from '../models/families.ts'
import { type LoraTarget, loraRules } from '../models/lora-rules.ts'
import type { WeightRule } from '../models/weight-rule.ts'
import { layerName, planWeight, type ShardNumbers, type WeightPlan } from './weight-plan.ts'

/** How a Megatron checkpoint names its weights: its older own modules, or Megatron-Core's. */
export type MegatronLayout = 'legacy' | 'mcore'

/** Megatron's parallel sizes of a checkpoint. */
export interface ParallelSizes {
  readonly tp: number
  readonly pp: number
  /** Layers of each stage, for uneven pipelines; default equal shares. */
  readonly layersPerStage?: readonly number[] | undefined
  /** Layers of one virtual stage; default no virtual stages. */
  readonly layersPerVirtualStage?: number | undefined
}

/** A weight in its place: the files of `stage`, the model `chunk` in them, and its name there. */
export interface StageWeight {
  readonly stage: number
  readonly chunk: number
  /** Path of the keys from the chunk's dict (legacy: without `language_model`), joined by dots. */
  readonly key: string
  readonly plan: WeightPlan
  /** A second copy of the tied embedding, on the last stage; readers use the first. */
  readonly isCopy: boolean
}

export interface StageWeightOptions extends ShardNumbers {
  readonly layout: MegatronLayout
  readonly stages: ReturnType<typeof stageLayers>
  /** Adapters besides the weights. */
  readonly targets?: readonly LoraTarget[]
  /** Leaves out what a LoRA training checkpoint leaves out: all but embedding, output layer and adapters. */
  readonly adaptersOnly?: boolean
}

/**
 * Every weight of a checkpoint, stage by stage and chunk by chunk, in the order of the rules.
 * @throws UnsupportedError when the layout has no place for one.
 */
export function stageWeights(options: StageWeightOptions): readonly StageWeight[] {
  const { architecture, stages, targets = [] } = options
  checkPlaces(architecture, options.layout)
  const lastStage = stages.length - 1
  const dense = weightRules(architecture)
  const rules = [
    ...dense.filter(rule => options.adaptersOnly !== true || rule.split === 'vocab'),
    ...loraRules(targets),
  ]
  const weights: StageWeight[] = []
  for (const [stage, chunks] of stages.entries()) {
    for (const [chunk, layers] of chunks.entries()) {
      const add = (rule: WeightRule, local?: number): void => {
        const plan = planWeight(rule, { ...options, layer: local === undefined ? undefined : layers[local]! })
        weights.push({ stage, chunk, key: layerName(rule[options.layout]!, local), plan, isCopy: false })
      }
      const at = (place: WeightRule['at']): WeightRule[] => rules.filter(rule => rule.at === place)
      if (stage === 0 && chunk === 0) for (const rule of at('first')) add(rule)
      for (const local of layers.keys()) for (const rule of at('layer')) add(rule, local)
      if (stage === lastStage && chunk === chunks.length - 1) {
        for (const rule of at('last')) add(rule)
        if (architecture.tiedEmbeddings && lastStage > 0) weights.push(tiedCopy(dense, { ...options, stage, chunk }))
      }
    }
  }
  return weights
}

/** Refuses a layout that has no place for one of the model's weights: norms of heads in the legacy one. */
export function checkPlaces(architecture: Architecture, layout: MegatronLayout): void {
  const homeless = weightRules(architecture).find(rule => rule[layout] === undefined)
  if (homeless === undefined) return
  throw new UnsupportedError(
    `A ${architecture.family} model has '${homeless.hf[0]}', for which the ${layout} layout has no place.`,
    { hint: "Use layout 'mcore'." },
  )
}

/** The module names that carry an `_extra_state` entry of None: every parallel linear layer. */
export function extraStateKeys(weights: readonly StageWeight[]): ReadonlySet<string> {
  const modules = weights
    .filter(({ key, plan }) => plan.rule.split !== 'replicated' && !/word_embeddings|\.lora_[AB]\./.test(key))
    .map(({ key }) => key.slice(0, key.lastIndexOf('.')))
  return new Set(modules.map(module => `${module}._extra_state`))
}

// Source: ModelLink 1.1, saver_megatron.py:667-669; its master, tasks/checkpoint/saver.py:376-381.
function tiedCopy(
  rules: readonly WeightRule[],
  options: StageWeightOptions & { stage: number; chunk: number },
): StageWeight {
  const embedding = rules.find(rule => rule.at === 'first' && rule.split === 'vocab')!
  return {
    stage: options.stage,
    chunk: options.chunk,
    key: options.layout === 'legacy' ? 'word_embeddings_for_head.weight' : 'output_layer.weight',
    plan: planWeight(embedding, options),
    isCopy: true,
  }
}
