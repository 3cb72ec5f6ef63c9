/**
 * Affinity that keeps pods away from machines, beside what the user asks for.
 * Source: Kubernetes' reference of NodeSelectorTerm: fields are matched by `metadata.name` alone, one value each.
 */
export function affinityWithout(machines: readonly string[], asked: unknown): Record<string, unknown> {
  const away = machines.map(name => ({ key: 'metadata.name', operator: 'NotIn', values: [name] }))
  const affinity = (asked ?? {}) as NodeAffinity
  const { nodeAffinity } = affinity
  const required = nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  // Of the terms one has to hold, of a term's fields all.
  const terms = (required?.nodeSelectorTerms ?? [{}]).map(term => ({
    ...term,
    matchFields: [...(term.matchFields ?? []), ...away],
  }))
  const selector = { ...required, nodeSelectorTerms: terms }
  return {
    ...affinity,
    nodeAffinity: { ...nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: selector },
  }
}

interface NodeAffinity {
  readonly nodeAffinity?: {
    readonly requiredDuringSchedulingIgnoredDuringExecution?: {
      readonly nodeSelectorTerms?: readonly { readonly matchFields?: readonly unknown[] }[]
    }
  }
}
