import { execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Builds the programs that tests start as processes and workers (trainer, job-wrapper, encode-worker), if they are
 * stale, and gives all tests one folder for their temporary ones, which goes with them however they end.
 */
export default async function prepareTests(): Promise<() => Promise<void>> {
  execFileSync(process.execPath, [fileURLToPath(new URL('../scripts/build-if-stale.mjs', import.meta.url))], {
    stdio: 'inherit',
  })
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-tests-'))
  process.env.TMPDIR = folder
  return () => rm(folder, { recursive: true, force: true, maxRetries: 3 })
}
