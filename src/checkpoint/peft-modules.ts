import type { Architecture } from '../models/architecture.ts'
import { weightRules } from '../models/families.ts'
import { type LoraTarget, loraTargets, targetWeight } from '../models/lora-rules.ts'
import { planWeight, type Rectangle } from './weight-plan.ts'

/** A linear layer of the Hugging Face model, and the rows of Megatron's (fused) layer that it is. */
export interface PeftModule {
  readonly layer: number
  readonly target: LoraTarget
  /** Its name in the model, `model.layers.0.self_attn.q_proj` say. */
  readonly module: string
  /** Its weight: [rows, columns]. */
  readonly shape: readonly [number, number]
  /** Which of its rows (`row`) are which of the fused layer's (`shardRow`). */
  readonly rectangles: readonly Rectangle[]
}

/** Every linear layer that adapters can be attached to in both worlds, layer by layer. */
export function peftModules(architecture: Architecture): readonly PeftModule[] {
  const rules = weightRules(architecture)
  return Array.from({ length: architecture.numLayers }, (_, layer) =>
    loraTargets.flatMap(target => {
      const rule = rules.find(it => it.mcore === targetWeight(target))!
      const plan = planWeight(rule, { architecture, tp: 1, paddedVocabSize: architecture.vocabSize, layer })
      return plan.parts.map(({ name, shape }) => ({
        ...{ layer, target, module: name.slice(0, -'.weight'.length), shape: shape as [number, number] },
        rectangles: plan.shards[0]!.rectangles.filter(it => it.tensor === name),
      }))
    }),
  ).flat()
}

/** Name of an adapter's tensor in `adapter_model.safetensors`. Source: PEFT 0.7, utils/save_and_load.py. */
export function peftTensor(module: string, matrix: 'A' | 'B'): string {
  return `base_model.model.${module}.lora_${matrix}.weight`
}
