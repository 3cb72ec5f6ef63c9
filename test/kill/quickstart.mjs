// Kills the quickstart with SIGKILL at random moments (its whole process group, jobs not included: they outlive it),
// runs it again to the end, and checks: the same final weights as an undisturbed run, no step that had a record ran
// again, no process left over. Usage: npm run test:kill [-- MOMENTS [SEED]]
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const moments = Number(process.argv[2] ?? 20)
let state = Number(process.argv[3] ?? Date.now() % 100_000)
console.log(`${moments} moments, seed ${state}`)

function random() {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state / 2 ** 32
}

function quickstart(store, killAfterMs) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'examples/01-quickstart.ts'], {
      cwd: root,
      detached: true,
      env: { ...process.env, ASCENDFLOW_STORE: store },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stdout.on('data', chunk => (output += chunk))
    child.stderr.on('data', chunk => (output += chunk))
    const timer =
      killAfterMs === undefined ? undefined : setTimeout(() => process.kill(-child.pid, 'SIGKILL'), killAfterMs)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code !== 0 && signal !== 'SIGKILL') reject(new Error(`quickstart ended with ${code ?? signal}:\n${output}`))
      else resolve({ output, killed: signal === 'SIGKILL' })
    })
  })
}

function weights(store) {
  const folder = readdirSync(join(store, 'steps')).find(name => name.startsWith('megatronToHf-'))
  return createHash('sha256')
    .update(readFileSync(join(store, 'steps', folder, 'work/hf/model.safetensors')))
    .digest('hex')
}

function records(store) {
  const steps = (() => {
    try {
      return readdirSync(join(store, 'steps'))
    } catch {
      return []
    }
  })()
  return Object.fromEntries(
    steps.flatMap(step => {
      try {
        return [[step, JSON.parse(readFileSync(join(store, 'steps', step, 'record.json'), 'utf8')).finishedAt]]
      } catch {
        return []
      }
    }),
  )
}

function processesOf(store) {
  return readdirSync('/proc').filter(pid => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(store)
    } catch {
      return false
    }
  })
}

const calm = mkdtempSync(join(tmpdir(), 'ascendflow-calm-'))
const before = Date.now()
await quickstart(calm)
const duration = Date.now() - before
const expected = weights(calm)
console.log(`undisturbed: ${(duration / 1000).toFixed(1)} s, weights ${expected.slice(0, 16)}`)
rmSync(calm, { recursive: true })

let bad = 0
let done = 0
while (done < moments) {
  const store = mkdtempSync(join(tmpdir(), 'ascendflow-kill-'))
  const at = Math.floor(random() * duration)
  const { killed } = await quickstart(store, at)
  // It ended before its moment came: no test of anything.
  if (!killed) {
    rmSync(store, { recursive: true })
    continue
  }
  done++
  const held = records(store)
  await quickstart(store)
  const after = records(store)
  const again = Object.keys(held).filter(step => held[step] !== after[step])
  // A killed group takes a moment to be gone.
  for (let wait = 0; wait < 50 && processesOf(store).length > 0; wait++) await sleep(100)
  const left = processesOf(store)
  const same = weights(store) === expected
  if (!same || again.length > 0 || left.length > 0) bad++
  console.log(
    `${done}. killed at ${(at / 1000).toFixed(1)} s, ${Object.keys(held).length} records: ` +
      `${same ? 'same weights' : 'OTHER WEIGHTS'}, ${again.length} ran again${again.length ? ` (${again})` : ''}, ${left.length} processes left`,
  )
  rmSync(store, { recursive: true })
}
console.log(`${moments - bad} passed, ${bad} failed`)
process.exitCode = bad === 0 ? 0 : 1
