/**
 * Random schedules of faults between the ModelArts executor and the double: `npm run fuzz:cloud -- --count 1000 --seed 1`,
 * or one of them alone: `npm run fuzz:cloud -- --count 1 --seed 1 --from 500`.
 *
 * Counted are jobs that exist twice, lines lost or told twice, secrets in anything told, wrong ends, schedules that do
 * not end, and promises that nobody caught.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runSchedule, wrongKinds } from './cloud-schedule.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    parallel: { type: 'string', default: '4' },
  },
})
const wrong = new Map<string, string[]>([...wrongKinds, 'unhandled'].map(kind => [kind, []]))
const injected = new Map<string, number>()
process.on('unhandledRejection', error => wrong.get('unhandled')?.push(String(error)))

const folder = await mkdtemp(join(tmpdir(), 'ascendflow-fuzz-cloud-'))
const [count, seed] = [Number(values.count), Number(values.seed)]
let next = 0
await Promise.all(
  Array.from({ length: Number(values.parallel) }, async () => {
    while (next < count) {
      const index = Number(values.from) + next++
      const outcome = await runSchedule(seed * 1_000_000 + index, { folder })
      for (const { kind, found } of outcome.wrong) wrong.get(kind)?.push(`schedule ${index} of seed ${seed}: ${found}`)
      for (const fault of outcome.faults) injected.set(fault, (injected.get(fault) ?? 0) + 1)
    }
  }),
)
await rm(folder, { recursive: true, force: true })

const sum = [...injected.values()].reduce((a, b) => a + b, 0)
console.log(
  `${count} schedules from seed ${seed}, ${sum} faults: ${[...injected].map(each => each.join(' ')).join(', ')}`,
)
for (const [kind, cases] of wrong) console.log(`  ${kind}: ${cases.length} ${cases.slice(0, 5).join('; ')}`)
// What hangs would keep the process alive.
process.exit([...wrong.values()].some(cases => cases.length > 0) ? 1 : 0)
