import { destroyProvisioned, provision } from 'ascendflow/modelarts'
import { type CloudFault, startCloudDouble } from 'ascendflow/testing'
import { seededRandom } from '../../layout/seeded-random.ts'
import { existing, keys, secrets, whole, wholeAccount } from './provisioned-account.ts'

const faults: readonly CloudFault[] = [
  ...(['lost-answer', 'lost-answer-page', 'reset', 'throttled', 'throttled-with-wait'] as const),
  ...(['server-error', 'bad-gateway', 'slow-answer'] as const),
]

/**
 * Provisions an account under random faults, again after each failure that may pass, and takes it away again; says how
 * many faults there were, and what was wrong: things that exist twice or are missing, things left, secrets told.
 */
export async function provisionSchedule(
  seed: number,
): Promise<{ readonly injected: number; readonly wrong: string[] }> {
  const random = seededRandom(seed).next
  const chance = random() * 0.35
  let injected = 0
  await using double = await startCloudDouble({
    ...{ buckets: [], keys: [keys], refusesSameName: random() < 0.5, pollsBeforeReady: Math.floor(random() * 3) },
    fault: () => {
      if (random() >= chance) return undefined
      injected++
      return faults[Math.floor(random() * faults.length)]
    },
  })
  const told: string[] = []
  const wrong: string[] = []
  const onProgress = (line: string) => void told.push(line)
  const expectThings = (when: string, expected: readonly string[]) => {
    const found = existing(double)
    if (found.join() !== expected.join()) wrong.push(`seed ${seed}, ${when}: ${found.join(', ')}`)
  }
  const persist = async (what: () => Promise<void>) => {
    for (let tries = 0; ; tries++)
      try {
        return await what()
      } catch (error) {
        told.push(String(error), JSON.stringify(error), String((error as Error).stack))
        if ((error as { retryable?: boolean }).retryable !== true || tries > 200) throw error
      }
  }

  const options = wholeAccount(double)
  try {
    await persist(async () => {
      const shown = await provision(options)
      told.push(String(shown), JSON.stringify(shown.items), JSON.stringify(await shown.apply({ onProgress })))
    })
    expectThings('provisioned', whole)
    told.push(String(double.object(options.bucket, '.ascendflow/provisioned.json')))
    await persist(async () => {
      const shown = await destroyProvisioned({ ...options, deleteFiles: true })
      told.push(String(shown), JSON.stringify(await shown.apply({ onProgress })))
    })
    // A bucket whose making could not be noted any more is not known to be ours, and stays.
    const rest = double.buckets.map(name => `bucket ${name}`)
    expectThings('destroyed', [...rest, 'network network-double'])
  } catch (error) {
    wrong.push(`seed ${seed}: ${error}`)
  }
  for (const secret of [...Object.values(secrets), 'notebook-token'])
    for (const text of told) if (text.includes(secret)) wrong.push(`seed ${seed}: told ${text}`)
  return { injected, wrong }
}
