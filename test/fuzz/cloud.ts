/**
 * Random schedules of faults between the ModelArts executor and the double: `npm run fuzz:cloud -- --count 1000 --seed 1`.
 *
 * Each schedule submits one job, sometimes twice at the same time and again after a refusal, as an engine does; follows
 * it, sometimes lets go and follows again from another executor; and sometimes cancels it. Counted are jobs that exist
 * twice, lines lost or told twice, secrets in anything told, wrong ends, and promises that nobody caught.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type CloudFault, startCloudDouble } from 'ascendflow/testing'
import { type JobHandle, ServiceError } from '../../src/index.ts'
import { modelArts } from '../../src/modelarts.ts'
import { seededRandom } from '../layout/seeded-random.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    parallel: { type: 'string', default: '4' },
  },
})
const faults: readonly CloudFault[] = [
  ...(['lost-answer', 'lost-answer-page', 'reset', 'throttled', 'throttled-with-wait'] as const),
  ...(['server-error', 'bad-gateway', 'slow-answer'] as const),
]
const keys = { ak: 'AKFUZZFUZZFUZZ', sk: 'sk-nobody-may-see-this', securityToken: 'token-nobody-may-see-this' }
const wrong: Record<string, string[]> = { duplicates: [], lines: [], secrets: [], ends: [], unhandled: [] }
const injected = new Map<string, number>()
process.on('unhandledRejection', error => wrong.unhandled?.push(String(error)))

const folder = await mkdtemp(join(tmpdir(), 'ascendflow-fuzz-cloud-'))
const [count, first] = [Number(values.count), Number(values.seed)]
let next = 0
await Promise.all(
  Array.from({ length: Number(values.parallel) }, async () => {
    while (next < count) await schedule(first * 1_000_000 + next++)
  }),
)
await rm(folder, { recursive: true, force: true })

const sum = [...injected.values()].reduce((a, b) => a + b, 0)
console.log(
  `${count} schedules from seed ${first}, ${sum} faults: ${[...injected].map(each => each.join(' ')).join(', ')}`,
)
for (const [what, cases] of Object.entries(wrong))
  console.log(`  ${what}: ${cases.length} ${cases.slice(0, 5).join('; ')}`)
if (Object.values(wrong).some(cases => cases.length > 0)) process.exitCode = 1

async function schedule(seed: number): Promise<void> {
  const random = seededRandom(seed).next
  const chance = random() * 0.35
  const isRestless = random() < 0.3
  const refusesSameName = random() < 0.5
  await using double = await startCloudDouble({
    keys: [keys],
    refusesSameName,
    previewBytes: random() < 0.5 ? 200 : 5_000_000,
    pollsBeforeRunning: Math.floor(random() * 4),
    fault: () => {
      if (random() >= chance) return undefined
      const fault = faults[Math.floor(random() * faults.length)]!
      injected.set(fault, (injected.get(fault) ?? 0) + 1)
      return fault
    },
    disguise: phase =>
      isRestless && random() < 0.3 ? (['Pending', 'Rebalancing'][Math.floor(random() * 2)] ?? phase) : phase,
  })
  const logDir = join(folder, String(seed))
  await mkdir(logDir)
  const told: string[] = []
  const note = (what: keyof typeof wrong, text: string) => wrong[what]?.push(`seed ${seed}: ${text}`)
  const make = () =>
    modelArts({
      ...{ region: double.region, credentials: keys, endpoints: { modelarts: double.url, iam: double.url } },
      ...{ image: 'o/i:1', poolId: 'pool-double', logFolder: '/b/l/', pollMs: 5, retryDelayMs: 1, retries: 3 },
      ...{ mounts: [{ local: tmpdir(), nfs: '127.0.0.1:/' }] },
    })
  const persist = async <T>(what: () => Promise<T>): Promise<T> => {
    for (let tries = 0; ; tries++) {
      try {
        return await what()
      } catch (error) {
        told.push(String(error), JSON.stringify(error), String((error as Error).stack))
        // What an engine tries again; more often than it would, so that every schedule comes to its end.
        if (!(error instanceof ServiceError) || !error.retryable || tries > 200) throw error
      }
    }
  }

  const total = Math.floor(random() * 80)
  const [exitCode, isCancelled] = [random() < 0.2 ? 3 : 0, random() < 0.2]
  const script = `i=0; while [ $i -lt ${total} ]; do i=$((i+1)); echo "行 $i"; done; ${isCancelled ? 'sleep 600' : `exit ${exitCode}`}`
  const launch = { argv: ['/bin/sh', '-c', script], nodes: 1, devicesPerNode: 0 }
  const options = { id: `train-${seed}-1`, logDir, signal: new AbortController().signal }
  // Two at once are kept apart by an engine's lock, or by the service where it refuses names that are taken.
  const isTwice = refusesSameName && random() < 0.4
  try {
    const submits = Array.from({ length: isTwice ? 2 : 1 }, () => persist(() => make().submit(launch, options)))
    const handles = (await Promise.all(submits)).map(handle => JSON.parse(JSON.stringify(handle)) as JobHandle)
    told.push(JSON.stringify(handles), make().describe(launch))
    const letGoAfter = random() < 0.3 ? Math.floor(random() * total) : -1
    const job = handles[0]!
    if (letGoAfter >= 0) await follow(job, letGoAfter)
    if (isCancelled) await persist(() => make().cancel(job))
    const { lines, state, code } = await follow(job, -1)
    const whole = Array.from({ length: total }, (_, i) => `行 ${i + 1}`)
    // A cancelled job may have been ended before it wrote all: what it wrote is the beginning.
    const expected = isCancelled ? whole.slice(0, lines.length) : whole
    if (lines.join('\n') !== expected.join('\n')) note('lines', `${lines.length} of ${total}`)
    if (state !== (isCancelled ? 'cancelled' : exitCode ? 'failed' : 'succeeded')) note('ends', `${state}`)
    if (!isCancelled && code !== exitCode) note('ends', `exit code ${code}`)
    told.push(...lines)
  } catch (error) {
    note('ends', String(error))
  }
  if (double.jobs.length !== 1) note('duplicates', `${double.jobs.length} jobs`)
  for (const text of told)
    for (const secret of [keys.sk, keys.securityToken]) if (text.includes(secret)) note('secrets', text)

  async function follow(job: JobHandle, letGoAfter: number) {
    return persist(async () => {
      const lines: string[] = []
      const controller = new AbortController()
      try {
        for await (const update of make().watch(job, { signal: controller.signal })) {
          told.push(JSON.stringify(update))
          if (update.type === 'log') lines.push(update.line)
          else if (!['pending', 'running'].includes(update.state))
            return { lines, state: update.state, code: update.exitCode }
          if (letGoAfter >= 0 && lines.length > letGoAfter) controller.abort()
        }
      } catch (error) {
        if (!controller.signal.aborted) throw error
      }
      return { lines, state: undefined, code: undefined }
    })
  }
}
