import { destroyProvisioned, provision } from 'ascendflow/modelarts'
import { type CloudDouble, startCloudDouble } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { provisionSchedule } from './provision-schedule.ts'
import { existing, keys, whole, wholeAccount } from './provisioned-account.ts'

const changes = /^(POST|PUT|PATCH|DELETE)$/

/** A double that makes the `at`th change and answers nothing from then on: the process that asked for it is dead. */
async function dyingAt(at: number) {
  const life = { changes: 0, isDead: false, isRevived: false }
  const double = await startCloudDouble({
    ...{ buckets: [], keys: [keys], pollsBeforeReady: 0 },
    fault: ({ method }) => {
      if (life.isRevived) return undefined
      if (life.isDead) return 'reset'
      if (!changes.test(method) || ++life.changes < at) return undefined
      life.isDead = true
      return 'lost-answer'
    },
  })
  return { double, life }
}

const quick = (double: CloudDouble) => ({ ...wholeAccount(double), retries: 0 })

const ours = ['bucket', 'folder', 'folder', 'image', 'link', 'notebook', 'share', 'target']

describe('provision that is killed', () => {
  it('after any change makes nothing twice when run again', async () => {
    for (let at = 1; ; at++) {
      const { double, life } = await dyingAt(at)
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
      // All of it is noted as ours, but for a bucket whose making could not be noted any more.
      const { made } = JSON.parse(`${double.object(options.bucket, '.ascendflow/provisioned.json')}`)
      const noted = made.filter(({ id }: { id?: string }) => id !== undefined).map(({ kind }: { kind: string }) => kind)
      expect([at, noted.sort()]).toEqual([at, at === 1 ? ours.slice(1) : ours])
    }
  }, 120_000)

  it('before a thing is answered leaves that thing to people when it is to be taken away', async () => {
    // The bucket, its note, two folders with two notes each, the note of the share, the share.
    const { double, life } = await dyingAt(10)
    await using _ = double
    await expect((await provision(quick(double))).apply()).rejects.toThrow('no answer')
    life.isRevived = true
    const left = await (await destroyProvisioned({ ...quick(double), deleteFiles: true })).apply()
    expect(left.map(({ kind, detail }) => `${kind}: ${detail}`)).toEqual([
      expect.stringMatching(/^share: whether it was made is not known: run provision\(\) again/),
      expect.stringMatching(/^bucket: it keeps the record of what stays: sfs-train/),
    ])
    expect(existing(double)).toContain('share sfs-train')
  })
})

describe('provision under random faults', () => {
  it('comes to its end with nothing twice and no secret told', async () => {
    let injected = 0
    for (let seed = 1; seed <= 6; seed++) {
      const outcome = await provisionSchedule(seed)
      expect(outcome.wrong).toEqual([])
      injected += outcome.injected
    }
    expect(injected).toBeGreaterThan(100)
  }, 120_000)
})
