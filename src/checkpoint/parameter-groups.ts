import type { MegatronLayout, StageWeight } from './stage-weights.ts'

/** Parameters that Megatron's optimizer treats alike. */
export interface ParameterGroup<W extends StageWeight = StageWeight> {
  /** False for biases and norms, which weight decay leaves alone. */
  readonly decays: boolean
  /** In the order in which the optimizer numbers them. */
  readonly weights: readonly W[]
}

/**
 * The optimizer's groups of one rank's parameters: a group begins with its first parameter, and parameters come in the
 * order in which the modules were made, which is that of the rules but for attention in Megatron-Core (output before
 * query, key and value). Of a LoRA checkpoint only adapters are trained.
 *
 * Source: Megatron-LM core_r0.6.0, core/optimizer/__init__.py, `_get_param_groups`; core/transformer/attention.py.
 */
export function parameterGroups<W extends StageWeight>(
  weights: readonly W[],
  layout: MegatronLayout,
): readonly ParameterGroup<W>[] {
  const groups = new Map<boolean, W[]>()
  for (const weight of moduleOrder(weights.filter(trained(weights)), layout)) {
    const decays = weight.plan.rule.shape.length > 1
    const group = groups.get(decays)
    if (group === undefined) groups.set(decays, [weight])
    else group.push(weight)
  }
  return [...groups].map(([decays, members]) => ({ decays, weights: members }))
}

function trained(weights: readonly StageWeight[]): (weight: StageWeight) => boolean {
  const isAdapter = ({ key }: StageWeight): boolean => /\.lora_[AB]\./.test(key)
  return weights.some(isAdapter) ? isAdapter : () => true
}

function moduleOrder<W extends StageWeight>(weights: readonly W[], layout: MegatronLayout): readonly W[] {
  if (layout === 'legacy') return weights
  const ordered: W[] = []
  const modules = /\.self_attention\.linear_(qkv|proj)\./
  for (const weight of weights) {
    const module = modules.exec(weight.key)
    if (module?.[1] !== 'proj') {
      ordered.push(weight)
      continue
    }
    const prefix = weight.key.slice(0, module.index)
    const attention = (other: W): boolean =>
      other.chunk === weight.chunk &&
      /\.linear_qkv\.|\.[qk]_layernorm\./.test(other.key.slice(prefix.length)) &&
      other.key.startsWith(`${prefix}.self_attention.`)
    const before = ordered.findIndex(attention)
    ordered.splice(before < 0 ? ordered.length : before, 0, weight)
  }
  return ordered
}
