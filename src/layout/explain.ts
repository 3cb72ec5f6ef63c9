import { devices as knownDevices } from './device-facts.ts'
import { layoutViolations, type Violation } from './legality.ts'
import { type FoundLayout, leastBytes, searchLayouts } from './search.ts'
import { type Candidate, eachCandidate, proposing, type SearchOptions, sizesDivide } from './search-space.ts'

/** The numbers of a layout that are asked about; what is absent is free. */
export interface WantedLayout extends Partial<Omit<Candidate, 'chunks'>> {
  /** Chunks of a stage; 1 is no virtual stages. */
  readonly chunks?: number
}

/** Why a layout is not the one to take, with the number that rules it out. */
export type LayoutAnswer =
  /** The toolchain refuses every such layout; the message is of one that breaks the fewest rules. */
  | { readonly verdict: 'illegal'; readonly message: string; readonly rule: Violation['rule'] }
  /** None fits; `overBytes` is what the smallest lacks. */
  | { readonly verdict: 'too-large'; readonly message: string; readonly overBytes: number }
  /** The fastest is slower than the best of all by this share, 0.1 being 10 %. */
  | { readonly verdict: 'slower'; readonly message: string; readonly slowerBy: number; readonly layout: FoundLayout }
  | { readonly verdict: 'best'; readonly message: string; readonly layout: FoundLayout }
  | { readonly verdict: 'none'; readonly message: string }

/**
 * Answers "why not tp 4?": the rule that refuses it, the memory that it lacks, or the share by which it is slower.
 * Without `devices` in what is wanted, layouts on any number of devices up to `options.devices` count.
 */
export function explainLayout(options: SearchOptions, wanted: WantedLayout): LayoutAnswer {
  const narrowed: SearchOptions = { ...options, space: { ...options.space, ...spaceOf(wanted) } }
  const asked = nameOf(wanted)
  const [fastest] = searchLayouts(narrowed).found
  if (fastest === undefined) return refusal(narrowed, asked)
  const [best = fastest] = searchLayouts(options).found
  const slowerBy = fastest.secondsPerIteration / best.secondsPerIteration - 1
  const own = `${seconds(fastest)} an iteration (${describe(fastest)})`
  // Layouts that are asked about may lie outside the space, and be faster than all in it.
  if (slowerBy <= 0) return { verdict: 'best', message: `${asked} is the fastest: ${own}.`, layout: fastest }
  const message = `${asked} takes ${own}, ${(100 * slowerBy).toFixed(1)} % more than ${seconds(best)} (${describe(best)}).`
  return { verdict: 'slower', message, slowerBy, layout: fastest }
}

function refusal(options: SearchOptions, asked: string): LayoutAnswer {
  let overBytes = Number.POSITIVE_INFINITY
  let smallest: Candidate | undefined
  let broken: readonly Violation[] | undefined
  const propose = proposing(options)
  const { usableBytes } = options.device ?? knownDevices.snt9b
  const judge = (candidate: Candidate) => {
    const violations = layoutViolations(propose(candidate))
    if (violations.length > 0) {
      if (broken === undefined || violations.length < broken.length) broken = violations
      return
    }
    if (!sizesDivide(options, candidate)) return
    const over = leastBytes(options, candidate) - usableBytes
    if (over < overBytes) [overBytes, smallest] = [over, candidate]
  }
  eachCandidate(options, judge, { all: true })
  if (smallest !== undefined) {
    const lacks = `${(overBytes / 2 ** 30).toFixed(1)} GiB a device`
    return { verdict: 'too-large', message: `${asked} lacks ${lacks}, even with ${describe(smallest)}.`, overBytes }
  }
  const first = broken?.[0]
  if (first === undefined)
    return { verdict: 'none', message: `${asked}: no layout on up to ${options.devices} devices.` }
  const { message, hint } = first.explain()
  return { verdict: 'illegal', message: hint ? `${message} ${hint}` : message, rule: first.rule }
}

function spaceOf(wanted: WantedLayout): SearchOptions['space'] {
  const { devices, tp, pp, cp, chunks, microBatchSize, sequenceParallel, distributedOptimizer } = wanted
  return {
    ...(devices === undefined ? {} : { deviceCounts: [devices] }),
    ...(tp === undefined ? {} : { tp: [tp] }),
    ...(pp === undefined ? {} : { pp: [pp] }),
    ...(cp === undefined ? {} : { cp: [cp] }),
    ...(chunks === undefined ? {} : { chunks: [chunks] }),
    ...(microBatchSize === undefined ? {} : { microBatchSize: [microBatchSize] }),
    ...(sequenceParallel === undefined ? {} : { sequenceParallel: [sequenceParallel] }),
    ...(distributedOptimizer === undefined ? {} : { distributedOptimizer: [distributedOptimizer] }),
  }
}

const seconds = (layout: FoundLayout) => `${layout.secondsPerIteration.toFixed(2)} s`

function nameOf(wanted: WantedLayout): string {
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined)
  return given.map(([name, value]) => `${name} ${value}`).join(', ') || 'Any layout'
}

function describe(layout: Candidate | FoundLayout): string {
  const { devices, tp, pp, cp, microBatchSize } = layout
  const sizes = `${devices} devices, tp ${tp} · pp ${pp}${cp > 1 ? ` · cp ${cp}` : ''}, microBatchSize ${microBatchSize}`
  return 'recompute' in layout && layout.recompute !== 'none' ? `${sizes}, ${layout.recompute} recomputation` : sizes
}
