/**
 * Random schedules of faults between `provision` and the double: `npm run fuzz:provision -- --count 1000 --seed 1`.
 * Counted are schedules after which something existed twice, was missing or was left, or a secret was told.
 */
import { parseArgs } from 'node:util'
import { provisionSchedule } from '../cloud/provision/provision-schedule.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    parallel: { type: 'string', default: '4' },
  },
})
const [count, first] = [Number(values.count), Number(values.seed)]
const wrong: string[] = []
process.on('unhandledRejection', error => wrong.push(`unhandled: ${error}`))
let [next, faults] = [0, 0]
await Promise.all(
  Array.from({ length: Number(values.parallel) }, async () => {
    while (next < count) {
      const outcome = await provisionSchedule(first * 1_000_000 + next++)
      faults += outcome.injected
      wrong.push(...outcome.wrong)
    }
  }),
)
console.log(`${count} schedules from seed ${first}, ${faults} faults, ${wrong.length} wrong`)
for (const each of wrong.slice(0, 10)) console.log(`  ${each}`)
if (wrong.length > 0) process.exitCode = 1
