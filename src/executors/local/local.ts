import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { JobError } from '../../errors.ts'
import type { Executor, JobHandle, JobUpdate } from '../../flow/executor.ts'
import { resolveWords, shellLine } from '../../flow/launch.ts'
import { isAlive, type ProcessIdentity } from '../../process-identity.ts'
import { programPath } from '../../program-path.ts'
import { masterPort } from '../master-port.ts'
import { createLogReader, type JobExit, readExit, readLeader } from './job-files.ts'
import { endProcesses, jobLives, jobMark } from './process-group.ts'

export interface LocalOptions {
  /** NPUs of this machine; absent: unknown, and layouts are not checked against it. */
  readonly devicesPerNode?: number
  /** Added to this process's environment for every job; a launch's own `env` comes last. */
  readonly env?: Readonly<Record<string, string>>
  /** Time between TERM and KILL when a job is cancelled, in ms; default 10,000. */
  readonly killAfterMs?: number
}

const name = 'local'
const pollMs = 50

interface LocalJob extends JobHandle {
  readonly dir: string
  readonly leader: ProcessIdentity
}

/**
 * Runs jobs on this machine, each as a process group of its own that outlives this process and is found again by
 * the pid and start time of its leader. Output goes to `log.txt` in the job's folder.
 */
export function local(options: LocalOptions = {}): Executor {
  return {
    name,
    maxNodes: 1,
    ...(options.devicesPerNode === undefined ? {} : { devicesPerNode: options.devicesPerNode }),
    describe: shellLine,

    async submit(launch, { id, logDir }) {
      const place = { rank: 0, count: 1, masterAddr: '127.0.0.1', masterPort: masterPort(id) }
      const argv = resolveWords(launch.argv, place, path => resolve(path))
      if (!(await readLeader(logDir)))
        await start([launch.dir ?? '', ...argv], {
          dir: logDir,
          id,
          env: { ...options.env, ...launch.env, [jobMark]: logDir },
        })
      return { executor: name, id, dir: logDir, leader: await claimed(logDir, id) } satisfies LocalJob
    },

    async *watch(job, { signal }) {
      const { dir, leader } = job as LocalJob
      const log = createLogReader(join(dir, 'log.txt'))
      yield { type: 'state', state: 'running' }
      for (;;) {
        // First whether it lives, then how it ended, then its output: in this order nothing is missed.
        const lives = isAlive(leader)
        const exit = await readExit(dir)
        do {
          for (const line of await log.lines()) yield { type: 'log', line }
          signal.throwIfAborted()
        } while (log.hasMore())
        if (exit || !lives) {
          if (log.rest()) yield { type: 'log', line: log.rest() }
          await endProcesses(job as LocalJob, 0)
          yield exit || existsSync(cancelMark(dir))
            ? endState(exit, existsSync(cancelMark(dir)))
            : { type: 'state', state: 'lost', reason: 'its process is gone and left no exit status' }
          return
        }
        await sleep(pollMs, undefined, { signal })
      }
    },

    async cancel(job) {
      const { dir } = job as LocalJob
      if (!jobLives(job as LocalJob)) return
      if (!(await readExit(dir))) await writeFile(cancelMark(dir), '')
      await endProcesses(job as LocalJob, options.killAfterMs ?? 10_000)
    },
  }
}

const cancelMark = (dir: string): string => join(dir, 'cancelled')

function endState(exit: JobExit | undefined, isCancelled: boolean): JobUpdate {
  if (isCancelled) return { type: 'state', state: 'cancelled' }
  return { type: 'state', state: exit?.exitCode === 0 ? 'succeeded' : 'failed', ...exit }
}

async function start(
  words: readonly string[],
  { dir, id, env }: { readonly dir: string; readonly id: string; readonly env: Readonly<Record<string, string>> },
): Promise<void> {
  const { execa } = await import('execa')
  const wrapper = execa(process.execPath, [programPath('job-wrapper'), dir, ...words], {
    ...{ detached: true, cleanup: false, stdio: 'ignore', reject: false, buffer: false },
    env,
  })
  wrapper.unref()
  // Only an end before the claim concerns us; afterwards the job speaks through its files.
  const early = await Promise.race([wrapper.then(result => result), claimed(dir, id)])
  if ('exitCode' in early && !(await readLeader(dir)))
    throw new JobError(`Job ${id} could not be started: its wrapper ended with exit code ${early.exitCode}.`, {
      ...{ executor: name, job: id, exitCode: early.exitCode, retryable: false, logTail: [], cause: early.cause },
    })
}

/** The leader of the job, once one has claimed it. */
async function claimed(dir: string, id: string): Promise<ProcessIdentity> {
  const deadline = Date.now() + 30_000
  while (Date.now() < deadline) {
    const leader = await readLeader(dir)
    if (leader) return leader
    await sleep(5)
  }
  throw new JobError(`Job ${id} did not start within 30 s.`, {
    ...{ executor: name, job: id, retryable: true, logTail: [], hint: `Look at ${dir}.` },
  })
}
