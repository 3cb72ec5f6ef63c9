// Injects faults into real processes: a training by the double of the toolchain.
//
//   faults         every fault of the double, in each program: classified right, tried again as it should, never a second
//                  job at a time, never success without a complete checkpoint
//   kills          the process that runs the pipeline is killed at MOMENTS moments and started again
//   disk           the disk is full when a checkpoint is saved (needs the right to mount)
//   cuts           connections to a host are cut in MOMENTS trainings (needs an OpenSSH server)
//   nodes          a host loses its power in MOMENTS trainings (needs an OpenSSH server and namespaces)
//   cancellations  CANCELS runs are cancelled at random moments: no process is left over
//
// Usage: npm run test:kill:jobs [-- [PART] [MOMENTS [CANCELS [SEED]]]]
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cancellations, kills } from './driver.ts'
import { faults } from './faults.ts'
import { cuts, disk, nodes } from './machines.ts'
import { begin, makePlace, processesIn, training } from './place.ts'

const words = process.argv.slice(2)
const part = words[0] !== undefined && !/^\d+$/.test(words[0]) ? words.shift()! : 'all'
const [moments = 20, cancels = 200, seed = Date.now() % 100_000] = words.map(Number)
const parts = { faults, kills, disk, cuts, nodes, cancellations }

if (part === 'child') {
  const dir = String(process.env.ASCENDFLOW_PLACE)
  await begin(dir, training(dir, 1_000)).done
} else await main()

async function main(): Promise<void> {
  if (part !== 'all' && !(part in parts)) throw new Error(`${part} is none of ${Object.keys(parts).join(', ')}.`)
  console.log(`seed ${seed}`)
  const dir = mkdtempSync(join(tmpdir(), 'ascendflow-jobs-'))
  let failures = 0
  try {
    await makePlace(dir)
    for (const [name, check] of Object.entries(parts)) {
      if (part !== 'all' && part !== name) continue
      const started = Date.now()
      const wrong = await check(dir, { moments, cancels, seed })
      failures += wrong
      console.log(`${name}: ${wrong} wrong, ${Math.round((Date.now() - started) / 1000)} s`)
    }
    const left = processesIn(dir)
    console.log(`${left.length} processes left over`)
    process.exitCode = failures + left.length > 0 ? 1 : 0
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
