import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Builds the programs that tests start as processes and workers (trainer, job wrapper), if a source is newer. */
export default function buildPrograms(): void {
  execFileSync(process.execPath, [fileURLToPath(new URL('../scripts/build-if-stale.mjs', import.meta.url))], {
    stdio: 'inherit',
  })
}
