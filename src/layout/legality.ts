import { LayoutError } from '../errors.ts'
import { argumentRules } from './argument-rules.ts'
import { buildingRules } from './building-rules.ts'
import { type LayoutRule, numberOf, type Turn, type TurnedNumber, turned } from './layout-rule.ts'
import { modelLinkRules } from './modellink-rules.ts'
import type { LayoutProposal } from './proposal.ts'

/** All rules, in the order in which the toolchain asks. The first is that of whole numbers, which the others rely on. */
const rules = [...argumentRules, ...modelLinkRules, ...buildingRules] as const
const [wholeNumbers] = rules

export type LayoutRuleName = (typeof rules)[number]['rule']

/** A rule of the toolchain that a proposal breaks. */
export interface Violation {
  readonly rule: LayoutRuleName
  /** File and lines of the toolchain that refuse it. */
  readonly source: string
  /** Says what is wrong, with all factors; works out the nearest numbers that would do. */
  readonly explain: () => Explanation
}

export interface Explanation {
  readonly message: string
  /** What would do; absent when nothing near would. */
  readonly hint?: string | undefined
}

const none: readonly Violation[] = []

/**
 * Every rule of the toolchain that the proposal breaks, in the order in which the toolchain would find them.
 * Costs a few microseconds; `explain` works out messages and hints.
 */
export function layoutViolations(proposal: LayoutProposal): readonly Violation[] {
  if (!wholeNumbers.holds(proposal)) return [violation(wholeNumbers, proposal)]
  let broken: Violation[] | undefined
  for (const rule of rules) {
    if (!rule.holds(proposal)) {
      broken ??= []
      broken.push(violation(rule, proposal))
    }
  }
  return broken ?? none
}

/** Whether the proposal breaks no rule: `layoutViolations` for those who try many, since it stops at the first. */
export function isLegal(proposal: LayoutProposal): boolean {
  return rules.every(rule => rule.holds(proposal))
}

/**
 * Checks a proposal against every rule of the toolchain.
 * @throws LayoutError that names the first violation, all factors, and the nearest numbers that would do.
 */
export function checkLayout(proposal: LayoutProposal): void {
  const [first] = layoutViolations(proposal)
  if (!first) return
  const { message, hint } = first.explain()
  throw new LayoutError(message, { hint })
}

function violation(rule: (typeof rules)[number], proposal: LayoutProposal): Violation {
  const explain = () => ({ message: rule.message(proposal), hint: hintOf(rule, proposal) })
  return { rule: rule.rule, source: rule.source, explain }
}

/** Numbers that make the whole legal; else that break nothing more; else that suit all that is said of that number. */
function hintOf(rule: LayoutRule, proposal: LayoutProposal): string | undefined {
  const broken = rules.filter(one => one !== rule && !one.holds(proposal))
  const demands: ((name: TurnedNumber) => readonly LayoutRule[])[] = [
    () => rules,
    () => rules.filter(one => !broken.includes(one)),
    name => rules.filter((one: LayoutRule) => one === rule || one.turn?.[0]?.name === name),
  ]
  for (const demand of demands) {
    const found = (rule.turn ?? [])
      .map(turn => ({ name: turn.name, values: nearest(turn, proposal, demand(turn.name)) }))
      .filter(({ values }) => values.length > 0)
      .slice(0, 2)
      .map(({ name, values }) => `${name} ${values.join(' or ')}`)
    if (found.length > 0) return [`${found.join(', or ')} would do.`, rule.instead].filter(Boolean).join(' ')
  }
  return rule.instead
}

/** The nearest values below and above that keep the rules, among 4096 on either side. */
function nearest({ name, unit }: Turn, proposal: LayoutProposal, kept: readonly LayoutRule[]): readonly number[] {
  const value = numberOf(proposal, name)
  const step = unit ? unit(proposal) : 1
  if (value === undefined || step === undefined) return []
  const base = Math.floor(value / step) * step
  const find = (first: number, stride: number) => {
    for (let other = first, tries = 0; tries < 4096 && other >= 1; other += stride, tries++)
      if (other !== value && kept.every(one => one.holds(turned(proposal, name, other)))) return other
    return undefined
  }
  return [find(base, -step), find(base + step, step)].filter(found => found !== undefined)
}
