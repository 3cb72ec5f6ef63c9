import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { claimFile } from './claim-file.ts'

/**
 * Name of job `id` on machines that others use too: another store may have a job of the same id. Made once and kept in
 * the job's folder, so that asking again after a crash gives the same.
 */
export function jobName(id: string, logDir: string): string {
  const path = join(logDir, 'job-name')
  claimFile(path, `ascendflow-${id.replaceAll(/[^\w.-]/g, '_')}-${randomBytes(4).toString('hex')}`)
  return readFileSync(path, 'utf8')
}
