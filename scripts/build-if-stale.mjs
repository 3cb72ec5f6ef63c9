// Builds dist/ when a source file is newer than the last build, so that no command runs yesterday's code.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const built = `${root}dist/index.js`
const newest = readdirSync(`${root}src`, { recursive: true, withFileTypes: true })
  .filter(entry => entry.isFile())
  .map(entry => statSync(`${entry.parentPath}/${entry.name}`).mtimeMs)
  .concat(statSync(`${root}tsup.config.ts`).mtimeMs)
  .reduce((a, b) => Math.max(a, b), 0)

if (!existsSync(built) || statSync(built).mtimeMs < newest) {
  execFileSync(process.execPath, [`${root}node_modules/tsup/dist/cli-default.js`, '--silent'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ASCENDFLOW_NO_DTS: '1' },
  })
}
