import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Metrics } from '../flow/call.ts'
import { writeWhole } from '../formats/atomic-file.ts'

const fileOf = (attempts: string, attempt: number) => join(attempts, String(attempt), 'metrics.json')

/** The last metrics that an attempt's job told; none when it told none or nobody was there to note them down. */
export async function readMetrics(attempts: string, attempt: number): Promise<Metrics> {
  const text = await readFile(fileOf(attempts, attempt), 'utf8').catch(() => '{}')
  return JSON.parse(text) as Metrics
}

/** Notes them down. They only serve to tell what a failure cost, so that a full disk is let pass. */
export async function writeMetrics(attempts: string, attempt: number, metrics: Metrics): Promise<void> {
  const file = fileOf(attempts, attempt)
  await mkdir(join(file, '..'), { recursive: true })
    .then(() => writeWhole(file, JSON.stringify(metrics)))
    .catch(() => {})
}
