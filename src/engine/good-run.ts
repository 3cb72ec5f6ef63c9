import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Canonical } from '../flow/key.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import type { ComparedPlan } from './diff-plans.ts'
import { asStoreError } from './store-error.ts'
import type { Work } from './survey.ts'

/** A run that succeeded, as far as a plan can be compared with it. */
export interface GoodRun extends ComparedPlan {
  readonly run: string
  /** When it ended, ISO 8601. */
  readonly at: string
}

const canonical = z.custom<Canonical>(value => value !== undefined)

const GoodRunFile = z.object({
  at: z.string(),
  steps: z.array(
    z.object({
      ...{ name: z.string(), step: z.string(), version: z.number(), key: z.string() },
      input: z.record(z.string(), canonical),
    }),
  ),
})

const fileOf = (store: string, run: string) => join(store, 'runs', run, 'succeeded.json')

/** Notes down what a run that succeeded was made of: `<store>/runs/<id>/succeeded.json`. */
export async function writeGoodRun(store: string, run: string, work: readonly Work[]): Promise<void> {
  const steps = work.map(({ call, key, input }) => ({
    ...{ name: call.name, step: call.step.spec.name, version: call.step.spec.version, key, input },
  }))
  const file = fileOf(store, run)
  const text = `${JSON.stringify({ at: new Date().toISOString(), steps }, null, 2)}\n`
  await writeWhole(file, text).catch(asStoreError(file))
}

/** The newest run of the store that succeeded and has a call of one of these names; undefined when there is none. */
export async function lastGoodRun(store: string, names: readonly string[]): Promise<GoodRun | undefined> {
  const runs = await readdir(join(store, 'runs')).catch(() => [])
  // Ids begin with the time of their start.
  for (const run of runs.sort().reverse()) {
    const text = await readFile(fileOf(store, run), 'utf8').catch(() => undefined)
    const read = text === undefined ? undefined : GoodRunFile.safeParse(parse(text))
    if (read?.success && read.data.steps.some(({ name }) => names.includes(name))) return { run, ...read.data }
  }
  return undefined
}

/** Of a store that was tampered with, nothing is known. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
