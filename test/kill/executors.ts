// Cancels jobs at random moments, on this machine, in (stub) containers and over ssh, and counts the processes that are
// left of them. Usage: npm run test:kill:executors [-- JOBS [SEED]]
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { docker, type Executor, local, ssh } from 'ascendflow'
import { missingServer, sshServer } from '../executors/ssh-server.ts'

const jobs = Number(process.argv[2] ?? 200)
let state = Number(process.argv[3] ?? Date.now() % 100_000)
const dir = mkdtempSync(join(tmpdir(), 'ascendflow-cancels-'))
process.env.DOCKER_STUB = join(dir, 'docker')
const signal = new AbortController().signal
const killAfterMs = 100

const reason = missingServer()
const server = reason ? undefined : await sshServer(join(dir, 'sshd'))
const client = fileURLToPath(new URL('../executors/docker-stub.mjs', import.meta.url))
const executors: Executor[] = [local({ killAfterMs }), docker({ image: 'trainer:1', client, killAfterMs })]
if (server)
  executors.push(
    ssh({ hosts: [server.host], ...server.options, jobRoot: join(dir, 'jobs'), sharedRoot: dir, killAfterMs }),
  )
console.log(
  `${jobs} jobs on ${executors.map(({ name }) => name).join(', ')}${reason ? ` (ssh: ${reason})` : ''}, seed ${state}`,
)

const left: Record<string, number> = {}
const ended: Record<string, Record<string, number>> = {}
// One after another on each executor, all executors at the same time.
await Promise.all(
  executors.map(async (executor, lane) => {
    for (let job = lane; job < jobs; job += executors.length) await cancelOne(executor, job)
  }),
)

await server?.stop()
rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
for (const { name } of executors)
  console.log(`${name}: ${JSON.stringify(ended[name] ?? {})}, ${left[name] ?? 0} processes left`)
const failed = Object.values(left).reduce((a, b) => a + b, 0)
process.exitCode = failed === 0 ? 0 : 1

async function cancelOne(executor: Executor, job: number): Promise<void> {
  const mark = `700.${job}${state}`
  // A tree as torchrun's: some ignore TERM, one has a session of its own, and the whole may also end by itself.
  const script = `trap "" TERM; setsid sleep ${mark} & sleep ${mark} & (sleep ${mark}; true) & sleep 0.${random() % 9}; ${random() % 4 === 0 ? 'exit 0' : `sleep ${mark}`}`
  const logDir = mkdtempSync(join(dir, 'job-'))
  const handle = await executor.submit(
    { argv: ['/bin/sh', '-c', script], nodes: 1, devicesPerNode: 0 },
    { id: `job-${job}`, logDir, signal },
  )
  await sleep(random() % 700)
  await executor.cancel(handle)
  const orphans = processesWith(mark).length
  left[executor.name] = (left[executor.name] ?? 0) + orphans
  let last = ''
  for await (const update of executor.watch(handle, { signal })) if (update.type === 'state') last = update.state
  const counts = ended[executor.name] ?? {}
  ended[executor.name] = { ...counts, [last]: (counts[last] ?? 0) + 1 }
}

function random(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state >>> 8
}

function processesWith(mark: string): readonly string[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(mark)
      } catch {
        return false
      }
    })
}
