import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ProcessIdentity, processIdentity } from '../../process-identity.ts'

/** The processes of one job: a group, and those who left it for a session of their own but carry the job's mark. */
export interface JobProcesses {
  readonly leader: ProcessIdentity
  /** The job's folder, which is the value of `ASCENDFLOW_JOB` in the environment of all of them. */
  readonly dir: string
}

/** Environment variable that marks the processes of a job, also those of other groups, as torchrun's workers are. */
export const jobMark = 'ASCENDFLOW_JOB'

/** True while any process of the job is alive; zombies are not. */
export function jobLives(job: JobProcesses): boolean {
  return groupLives(job.leader) || strays(job).length > 0
}

/** Ends all processes of the job: TERM, and KILL when any is still there after `graceMs`. Resolves when none is left. */
export async function endProcesses(job: JobProcesses, graceMs: number): Promise<void> {
  if (!jobLives(job)) return
  signalAll(job, 'SIGTERM')
  const deadline = Date.now() + graceMs
  while (Date.now() < deadline) {
    if (!jobLives(job)) return
    await sleep(20)
  }
  while (jobLives(job)) {
    signalAll(job, 'SIGKILL')
    await sleep(20)
  }
}

function groupLives(leader: ProcessIdentity): boolean {
  const now = processIdentity(leader.pid)
  // A number is not used again while its group has members: another process with it means that the group is gone.
  if (now && now.started !== leader.started) return false
  if (now) return true
  try {
    process.kill(-leader.pid, 0)
  } catch {
    return false
  }
  return process.platform === 'linux' ? hasLiveMember(leader.pid) : true
}

function signalAll(job: JobProcesses, signal: NodeJS.Signals): void {
  if (groupLives(job.leader)) send(-job.leader.pid, signal)
  for (const pid of strays(job)) send(pid, signal)
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function hasLiveMember(group: number): boolean {
  return pids().some(pid => groupOf(pid) === group)
}

/** Marked processes of other groups, where the system tells (/proc). The environment of a zombie is empty. */
function strays({ leader, dir }: JobProcesses): readonly number[] {
  const mark = `${jobMark}=${dir}`
  return pids().filter(pid => read(pid, 'environ').split('\0').includes(mark) && groupOf(pid) !== leader.pid)
}

/** Process group of a live process. After the command name come state, parent and group (proc(5)). */
function groupOf(pid: number): number | undefined {
  const stat = read(pid, 'stat')
  const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return state === 'Z' || state === 'X' ? undefined : Number(group)
}

function pids(): readonly number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry))
    .map(Number)
}

function read(pid: number, file: 'stat' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}
