import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type CloudDouble, type CloudFault, type DoubleKeys, startCloudDouble } from 'ascendflow/testing'
import { type JobHandle, type JobUpdate, ServiceError } from '../../src/index.ts'
import { modelArts } from '../../src/modelarts.ts'
import { seededRandom } from '../layout/seeded-random.ts'

/** What one schedule came to. */
export interface ScheduleOutcome {
  /** What went wrong: `duplicates`, `lines`, `secrets`, `ends`, `hung`, and in words what was found. */
  readonly wrong: readonly { readonly kind: WrongKind; readonly found: string }[]
  /** Faults that were injected. */
  readonly faults: readonly (CloudFault | 'expired-keys')[]
}

export const wrongKinds = ['duplicates', 'lines', 'secrets', 'ends', 'hung'] as const
type WrongKind = (typeof wrongKinds)[number]

const allFaults: readonly CloudFault[] = [
  ...(['lost-answer', 'lost-answer-page', 'reset', 'throttled', 'throttled-with-wait'] as const),
  ...(['server-error', 'bad-gateway', 'slow-answer'] as const),
]
/** Temporary keys, each good until the next take their place. */
const newKeys = () =>
  Array.from({ length: 1000 }, (_, i): { -readonly [Field in keyof DoubleKeys]: DoubleKeys[Field] } => {
    return { ak: `AKFUZZ${i}`, sk: `sk-nobody-may-see-this-${i}`, securityToken: `token-nobody-may-see-this-${i}` }
  })
const secrets = ['sk-nobody-may-see-this', 'token-nobody-may-see-this']
/** Longest time of one schedule; most take a second. */
const longestMs = 60_000

/**
 * Carries out the schedule of faults that follows from `seed`: submits one job, sometimes twice at the same time and
 * again after a refusal, as an engine does; follows it, sometimes lets go and follows again from another executor; and
 * sometimes cancels it. One that has not ended after a minute is told with what it was about, and left.
 */
export async function runSchedule(seed: number, { folder }: { readonly folder: string }): Promise<ScheduleOutcome> {
  const wrong: { kind: WrongKind; found: string }[] = []
  const faults: (CloudFault | 'expired-keys')[] = []
  const doing: Doing = { what: 'start' }
  const note = (kind: WrongKind, found: string) => void wrong.push({ kind, found })
  const over = new AbortController()
  const work = schedule({ seed, folder, doing, note, inject: fault => faults.push(fault) })
    .catch((error: unknown) => note('ends', String(error)))
    .finally(() => over.abort())
  const bound = sleep(longestMs, undefined, { signal: over.signal }).then(
    () => {
      note('hung', `in ${doing.what}`)
      // Its jobs are processes, which would outlive us.
      return doing.double?.close()
    },
    () => undefined,
  )
  await Promise.race([work, bound])
  return { wrong: [...wrong], faults }
}

interface Doing {
  what: string
  double?: CloudDouble
}

interface Scheduled {
  readonly seed: number
  readonly folder: string
  readonly doing: Doing
  note(kind: WrongKind, found: string): void
  inject(fault: CloudFault | 'expired-keys'): void
}

async function schedule({ seed, folder, doing, note, inject }: Scheduled): Promise<void> {
  const random = seededRandom(seed).next
  const chance = random() * 0.35
  const isRestless = random() < 0.3
  const refusesSameName = random() < 0.5
  const keys = newKeys()
  const expires = random() < 0.3 ? 0.5 : 0
  let [valid, held, requests] = [0, 0, 0]
  await using double = await startCloudDouble({
    keys,
    refusesSameName,
    previewBytes: random() < 0.5 ? 200 : 5_000_000,
    pollsBeforeRunning: Math.floor(random() * 4),
    fault: () => {
      // Not so soon that a request that was refused once is refused again.
      if (++requests % 10 === 0 && random() < expires) {
        keys[valid++]!.expiresAt = 1
        inject('expired-keys')
      }
      if (random() >= chance) return undefined
      const fault = allFaults[Math.floor(random() * allFaults.length)]!
      inject(fault)
      return fault
    },
    disguise: phase =>
      isRestless && random() < 0.3 ? (['Pending', 'Rebalancing'][Math.floor(random() * 2)] ?? phase) : phase,
  })
  doing.double = double
  const logDir = join(folder, String(seed))
  await mkdir(logDir)
  const told: string[] = []
  const credentials = async (refused?: object) => {
    if (refused) held = valid
    const { expiresAt: _, ...usable } = keys[held]!
    return usable
  }
  const make = () =>
    modelArts({
      ...{ region: double.region, credentials, endpoints: { modelarts: double.url, iam: double.url } },
      ...{ image: 'o/i:1', poolId: 'pool-double', logFolder: '/b/l/', pollMs: 5, retryDelayMs: 1, retries: 3 },
      ...{ mounts: [{ local: tmpdir(), nfs: '127.0.0.1:/' }] },
    })
  const persist = async <T>(name: string, what: () => Promise<T>): Promise<T> => {
    doing.what = name
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
  const submits = Array.from({ length: isTwice ? 2 : 1 }, () => persist('submit', () => make().submit(launch, options)))
  // All of them are at their end before one is told to have failed.
  await Promise.allSettled(submits)
  const handles = (await Promise.all(submits)).map(handle => JSON.parse(JSON.stringify(handle)) as JobHandle)
  told.push(JSON.stringify(handles), make().describe(launch))
  const job = handles[0]!
  // Of updates, not of lines: a job that waits to be cancelled may write none, and tells its state at least.
  if (random() < 0.3) await follow(job, 1 + Math.floor(random() * total))
  if (isCancelled) await persist('cancel', () => make().cancel(job))
  const { lines, state, code } = await follow(job)
  const whole = Array.from({ length: total }, (_, i) => `行 ${i + 1}`)
  // A cancelled job may have been ended before it wrote all: what it wrote is the beginning.
  const expected = isCancelled ? whole.slice(0, lines.length) : whole
  if (lines.join('\n') !== expected.join('\n')) note('lines', `${lines.length} of ${total}`)
  if (state !== (isCancelled ? 'cancelled' : exitCode ? 'failed' : 'succeeded')) note('ends', `${state}`)
  if (!isCancelled && code !== exitCode) note('ends', `exit code ${code}`)
  if (double.jobs.length !== 1) note('duplicates', `${double.jobs.length} jobs`)
  for (const text of [...told, ...lines]) for (const secret of secrets) if (text.includes(secret)) note('secrets', text)
  doing.what = 'close'

  /** To the end, or until `letGoAfter` updates were told. */
  async function follow(job: JobHandle, letGoAfter = Number.POSITIVE_INFINITY) {
    const isToEnd = letGoAfter === Number.POSITIVE_INFINITY
    return persist(isToEnd ? 'follow' : `follow until update ${letGoAfter}`, async () => {
      const updates: JobUpdate[] = []
      const controller = new AbortController()
      try {
        for await (const update of make().watch(job, { signal: controller.signal })) {
          told.push(JSON.stringify(update))
          updates.push(update)
          if (updates.length >= letGoAfter) controller.abort()
        }
      } catch (error) {
        if (!controller.signal.aborted) throw error
      }
      const lines = updates.flatMap(update => (update.type === 'log' ? [update.line] : []))
      const last = updates.at(-1)
      return last?.type === 'state' ? { lines, state: last.state, code: last.exitCode } : { lines }
    })
  }
}
