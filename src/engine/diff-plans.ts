import { differences } from './miss-reason.ts'
import type { PlannedStep } from './planned-step.ts'

/** What two plans do differently, as data; `String(diff)` is text for people. Calls are known by their names. */
export interface PlanDiff {
  /** Calls that only the second plan has. */
  readonly added: readonly string[]
  /** Calls that only the first plan has. */
  readonly removed: readonly string[]
  /** Calls of both that are other work, and why: `globalBatchSize 512 → 256`. */
  readonly changed: readonly { readonly name: string; readonly differences: readonly string[] }[]
  toString(): string
}

/** What a plan holds of its calls; a plan read back from JSON will do. */
export type ComparedPlan = { readonly steps: readonly ComparedStep[] }
type ComparedStep = Pick<PlannedStep, 'name' | 'step' | 'version' | 'key' | 'input'>

/** The difference between two plans, for a review of a change; `plan` itself tells that from the last good run. */
export function diffPlans(before: ComparedPlan, after: ComparedPlan): PlanDiff {
  const earlier = new Map(before.steps.map(step => [step.name, step]))
  const later = new Map(after.steps.map(step => [step.name, step]))
  const nameOfKey = (key: string) => after.steps.find(step => step.key === key)?.name
  const added = [...later.keys()].filter(name => !earlier.has(name))
  const removed = [...earlier.keys()].filter(name => !later.has(name))
  const changed = after.steps.flatMap(now => {
    const then = earlier.get(now.name)
    return then === undefined || then.key === now.key
      ? []
      : [{ name: now.name, differences: stepDifferences(now, then, nameOfKey) }]
  })
  const lines = [
    ...added.map(name => `+ ${name}`),
    ...removed.map(name => `- ${name}`),
    ...changed.map(({ name, differences }) => `~ ${name}  ${differences.join('; ')}`),
  ]
  return { added, removed, changed, toString: () => lines.join('\n') || 'no difference' }
}

function stepDifferences(
  now: ComparedStep,
  then: ComparedStep,
  nameOfKey: (key: string) => string | undefined,
): readonly string[] {
  return [
    ...(now.step === then.step ? [] : [`step ${then.step} → ${now.step}`]),
    ...(now.version === then.version ? [] : [`version ${then.version} → ${now.version}`]),
    ...differences(now.input, then.input, nameOfKey),
  ]
}
