import { explainLayout } from '../../src/layout/explain.ts'
import { searchLayouts } from '../../src/layout/search.ts'
import type { SearchOptions } from '../../src/layout/search-space.ts'
import { findModel } from '../../src/models/supported-model.ts'

const rounds = 9
const largest = { model: findModel('qwen2-72b').architecture, seqLength: 4096, globalBatchSize: 512, devices: 512 }
const cases: readonly (readonly [string, SearchOptions, number | undefined])[] = [
  ['72B, up to 512 devices', largest, 200],
  // Four times the space.
  ['72B, up to 512 devices, with context parallelism', { ...largest, flags: { useMcoreModels: true } }, undefined],
]

/** Full searches: the first, which compiles the code, and the median of the others. */
export async function bench(): Promise<void> {
  for (const [name, options, targetMs] of cases) {
    const times = Array.from({ length: rounds }, () => timed(() => searchLayouts(options)))
    const [first = 0, ...others] = times
    const median = others.sort((a, b) => a - b)[others.length >> 1]!
    const { candidates, illegal, found } = searchLayouts(options)
    const met =
      targetMs !== undefined && ` (target ${targetMs} ms: ${Math.max(first, median) < targetMs ? 'met' : 'missed'})`
    console.log(
      `${name}: ${candidates} candidates, ${candidates - illegal} legal, ${found.length} fit; ${first.toFixed(0)} ms at first, then ${median.toFixed(0)} ms${met || ''}`,
    )
    console.log(`  why not tp 2? ${timed(() => explainLayout(options, { tp: 2 })).toFixed(0)} ms`)
  }
}

/** Milliseconds of processor time, all threads of the runtime included: what a machine with nothing else to do takes at most. */
function timed(work: () => unknown): number {
  const start = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}
