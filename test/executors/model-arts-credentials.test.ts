import type { DoubleKeys } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { executorFor, follow, shell, startDouble, submit } from './model-arts-on-double.ts'

type Keys = { -readonly [Field in keyof DoubleKeys]: DoubleKeys[Field] }

const script = 'for i in 1 2 3 4 5 6; do echo "line $i"; sleep 0.05; done'
const whole = Array.from({ length: 6 }, (_, i) => `line ${i + 1}`)

/** A double whose first keys end when a job was looked at four times. */
async function whoseKeysEnd() {
  const first: Keys = { ak: 'FIRST', sk: 'first-secret', securityToken: 'first-token' }
  const second: Keys = { ak: 'SECOND', sk: 'second-secret', securityToken: 'second-token' }
  let looks = 0
  const double = await startDouble({
    keys: [first, second],
    fault: ({ method, path }) => {
      if (method === 'GET' && /training-jobs\/[^/]+$/.test(path) && ++looks === 4) first.expiresAt = 1
      return undefined
    },
  })
  return { double, first, second }
}

describe('temporary credentials of modelArts', () => {
  it('that end while a job is followed are taken anew from the function that gives them', async () => {
    const { double, first, second } = await whoseKeysEnd()
    const refused: string[] = []
    let held: Keys = first
    const credentials = async (bad?: { readonly ak: string }) => {
      if (bad) {
        refused.push(bad.ak)
        held = second
      }
      return { ...held, expiresAt: undefined }
    }
    const executor = executorFor(double, { credentials })
    const { lines, last } = await follow(executor, await submit(executor, shell(script)))
    expect([lines, last?.state]).toEqual([whole, 'succeeded'])
    expect(new Set(refused)).toEqual(new Set(['FIRST']))
  })

  it('that were given as they are say what to do when they end; the job is followed on with others', async () => {
    const { double, first, second } = await whoseKeysEnd()
    const stale = executorFor(double, { credentials: { ...first } })
    const job = await submit(stale, shell(script))
    const error = await follow(stale, job).catch((reason: unknown) => reason)
    expect(String(error)).toMatch(/401 APIGW\.0301 .*pass a function as credentials that gives those of the moment/)
    expect(String(error)).not.toMatch(/first-secret|first-token/)
    const { lines, last } = await follow(executorFor(double, { credentials: second }), job)
    expect([lines, last?.state, double.jobs.length]).toEqual([whole, 'succeeded', 1])
  })
})
