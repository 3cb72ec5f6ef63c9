import type { Dimension, Split, WeightRule } from './weight-rule.ts'

/** The linear layers that adapters may be attached to, by their Megatron-Core names. */
export type LoraTarget = 'linear_qkv' | 'linear_proj' | 'linear_fc1' | 'linear_fc2'

interface Linear {
  readonly target: LoraTarget
  /** Name in a legacy checkpoint. */
  readonly legacy: string
  readonly module: 'self_attention' | 'mlp'
  readonly output: Dimension
  readonly input: Dimension
  /** How A [rank, input] and B [output, rank] are cut. */
  readonly a: Split
  readonly b: Split
}

/**
 * Column-parallel layers cut B by rows and replicate A, row-parallel layers cut A by columns and replicate B; the rows
 * of B follow the fused weight. Source: ModelLink 1.1, modellink/tasks/finetune/lora; names from PEFT 0.7.1.
 */
const linears: readonly Linear[] = [
  {
    target: 'linear_qkv',
    legacy: 'query_key_value',
    module: 'self_attention',
    output: 'qkv',
    input: 'hidden',
    a: 'replicated',
    b: 'fusedQkv',
  },
  {
    target: 'linear_proj',
    legacy: 'dense',
    module: 'self_attention',
    output: 'hidden',
    input: 'heads',
    a: 'row',
    b: 'replicated',
  },
  {
    target: 'linear_fc1',
    legacy: 'dense_h_to_4h',
    module: 'mlp',
    output: 'gateUp',
    input: 'hidden',
    a: 'replicated',
    b: 'gateUp',
  },
  {
    target: 'linear_fc2',
    legacy: 'dense_4h_to_h',
    module: 'mlp',
    output: 'hidden',
    input: 'ffn',
    a: 'row',
    b: 'replicated',
  },
]

/** Every target, in the order of the table. */
export const loraTargets: readonly LoraTarget[] = linears.map(linear => linear.target)

/** Name of a target in a legacy checkpoint's `lora_target_modules`, `query_key_value` for `linear_qkv` say. */
export function legacyTarget(target: LoraTarget): string {
  return linears.find(linear => linear.target === target)!.legacy
}

/** The target that a checkpoint of either layout calls `name`, or undefined. */
export function loraTarget(name: string): LoraTarget | undefined {
  return linears.find(linear => linear.target === name || linear.legacy === name)?.target
}

/** Name of one adapter of a layer as sources give it: `layers.{layer}.{target}.lora_{A|B}.weight`. */
export function adapterName(layer: number | '{i}', target: LoraTarget, matrix: 'A' | 'B'): string {
  return `layers.${layer}.${target}.lora_${matrix}.weight`
}

/**
 * The rules of the adapters: their `hf` name is `adapterName`, since Hugging Face has none for fused layers, with
 * A [rank, input] and B [output, rank] as a single Megatron rank would hold them (B of `linear_qkv` fused per group,
 * B of `linear_fc1` gate above up).
 */
export function loraRules(targets: readonly LoraTarget[]): readonly WeightRule[] {
  return linears
    .filter(linear => targets.includes(linear.target))
    .flatMap(linear => {
      const rule = (matrix: 'A' | 'B'): WeightRule => ({
        hf: [adapterName('{i}', linear.target, matrix)],
        legacy: `encoder.layers.{i}.${linear.module}.${linear.legacy}.lora_${matrix}.default.weight`,
        mcore: `decoder.layers.{i}.${linear.module}.${linear.target}.lora_${matrix}.default.weight`,
        split: matrix === 'A' ? linear.a : linear.b,
        shape: matrix === 'A' ? ['rank', linear.input] : [linear.output, 'rank'],
        at: 'layer',
      })
      return [rule('A'), rule('B')]
    })
}

/** The dense weight that a target's adapters add to, by its Megatron-Core name with `{i}`. */
export function targetWeight(target: LoraTarget): string {
  const { module } = linears.find(linear => linear.target === target)!
  return `decoder.layers.{i}.${module}.${target}.weight`
}
