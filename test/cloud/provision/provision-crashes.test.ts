import { destroyProvisioned, provision } from 'ascendflow/modelarts'
import { type CloudDouble, type CloudFault, startCloudDouble } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../layout/seeded-random.ts'
import { existing, keys, secrets, whole, wholeAccount } from './provisioned-account.ts'

const changes = /^(POST|PUT|PATCH|DELETE)$/

/** A double on which everything fails from the `at`th change on: the process that made it is dead. */
async function dyingAt(at: number, last: CloudFault) {
  const life = { changes: 0, isDead: false, isRevived: false }
  const double = await startCloudDouble({
    ...{ buckets: [], keys: [keys], pollsBeforeReady: 1 },
    fault: ({ method }) => {
      if (life.isRevived) return undefined
      if (life.isDead) return 'reset'
      if (!changes.test(method) || ++life.changes < at) return undefined
      life.isDead = true
      return last
    },
  })
  return { double, life }
}

const quick = (double: CloudDouble) => ({ ...wholeAccount(double), retries: 0 })

describe('provision that is killed', () => {
  it.each(['lost-answer', 'reset'] as const)(
    'at any change (%s) makes nothing twice when run again',
    async last => {
      for (let at = 1; ; at++) {
        const { double, life } = await dyingAt(at, last)
        await using _ = double
        const options = quick(double)
        const outcome = await (await provision(options)).apply().catch((error: unknown) => error)
        if (!life.isDead) {
          // The bucket, two folders, the share, the link, the target, the image, the notebook, and notes of each.
          expect(at - 1).toBe(8 + 1 + 7 * 2)
          break
        }
        expect(outcome).toBeInstanceOf(Error)
        life.isRevived = true
        await (await provision(options)).apply()
        expect([at, existing(double)]).toEqual([at, whole])
        // All of it is known to be ours, but for a bucket whose making could not be noted any more.
        await (await destroyProvisioned({ ...options, deleteFiles: true })).apply()
        const rest = at <= 2 && double.buckets.length > 0 ? ['bucket standard-llama2-13b'] : []
        expect([at, existing(double)]).toEqual([at, [...rest, 'network network-double']])
      }
    },
    120_000,
  )
})

const faults: readonly CloudFault[] = [
  ...(['lost-answer', 'lost-answer-page', 'reset', 'throttled', 'throttled-with-wait'] as const),
  ...(['server-error', 'bad-gateway', 'slow-answer'] as const),
]

describe('provision under random faults', () => {
  it('comes to its end with nothing twice and no secret told', async () => {
    let injected = 0
    for (let seed = 1; seed <= 25; seed++) {
      const random = seededRandom(seed).next
      let isCalm = false
      await using double = await startCloudDouble({
        ...{ buckets: [], keys: [keys], refusesSameName: random() < 0.5, pollsBeforeReady: Math.floor(random() * 3) },
        fault: () => {
          if (isCalm || random() >= 0.25) return undefined
          injected++
          return faults[Math.floor(random() * faults.length)]
        },
      })
      const told: string[] = []
      const persist = async <T>(what: () => Promise<T>): Promise<T> => {
        for (let tries = 0; ; tries++)
          try {
            return await what()
          } catch (error) {
            told.push(String(error), JSON.stringify(error), String((error as Error).stack))
            if ((error as { retryable?: boolean }).retryable !== true || tries > 200) throw error
          }
      }
      const options = wholeAccount(double)
      const onProgress = (line: string) => void told.push(line)
      const made = await persist(async () => {
        const shown = await provision(options)
        told.push(String(shown), JSON.stringify(shown.items))
        return shown.apply({ onProgress })
      })
      told.push(JSON.stringify(made), String(double.object(options.bucket, '.ascendflow/provisioned.json')))
      expect([seed, existing(double)]).toEqual([seed, whole])
      await persist(async () => {
        const shown = await destroyProvisioned({ ...options, deleteFiles: true })
        told.push(String(shown))
        return shown.apply({ onProgress })
      })
      isCalm = true
      const secret = [...Object.values(secrets), 'notebook-token']
      expect(told.filter(text => secret.some(each => text.includes(each)))).toEqual([])
    }
    expect(injected).toBeGreaterThan(300)
  }, 120_000)
})
