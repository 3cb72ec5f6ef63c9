import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { endProcesses, jobMark } from '../executors/local/process-group.ts'
import { processIdentity } from '../process-identity.ts'
import type { AcceptedJob } from './job-rules.ts'

/** A job whose workers are processes of this machine. */
export interface RunningJob {
  readonly tasks: readonly string[]
  /** True once no worker is left. */
  readonly hasEnded: boolean
  readonly isStopping: boolean
  /** Of each worker that has ended. */
  readonly exitCodes: ReadonlyMap<string, number>
  /** File with the worker's output. */
  logFile(task: string): string
  /** Ends all workers. */
  stop(): void
}

/** A container's processes are told to end, and have this long to. */
const killAfterMs = 1_000

/**
 * Starts the command of a job on as many workers as it has nodes, each with the variables of a training container. When
 * a worker's command ends, all of its processes do; when one fails the others are ended, as the service does.
 */
export function startJob(
  job: AcceptedJob,
  { id, folder, imageEnv }: { id: string; folder: string; imageEnv: Readonly<Record<string, string>> },
): RunningJob {
  const exitCodes = new Map<string, number>()
  const tasks = Array.from({ length: job.nodes }, (_, rank) => `worker-${rank}`)
  const logFile = (task: string) => join(folder, `${task}.log`)
  let isStopping = false
  const workers = tasks.map((task, rank) => {
    const dir = join(folder, task)
    mkdirSync(dir, { recursive: true })
    const log = openSync(logFile(task), 'w')
    const worker = spawn('bash', ['-c', job.command], {
      ...{ detached: true, cwd: dir, stdio: ['ignore', log, log] },
      env: {
        ...{ PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: dir, LANG: 'C.UTF-8' },
        ...imageEnv,
        ...job.environments,
        ...{ MA_NUM_HOSTS: `${job.nodes}`, VC_WORKER_NUM: `${job.nodes}`, VC_TASK_INDEX: `${rank}` },
        ...{ VC_WORKER_HOSTS: tasks.map(() => 'localhost').join(','), MA_NUM_GPUS: `${job.devicesPerNode}` },
        ...{ MA_TASK_NAME: 'worker', MA_VJ_NAME: `modelarts-job-${id}`, MA_CURRENT_IP: '127.0.0.1' },
        [jobMark]: dir,
      },
    })
    closeSync(log)
    const leader = worker.pid === undefined ? undefined : processIdentity(worker.pid)
    const end = async (graceMs: number) => {
      if (leader) await endProcesses({ leader, dir }, graceMs)
    }
    worker.on('exit', async (code, signal) => {
      await end(0)
      exitCodes.set(task, code ?? (signal === 'SIGTERM' ? 143 : 137))
      if (code !== 0 && !isStopping) for (const other of workers) void other.end(0)
    })
    return { end }
  })
  return {
    tasks,
    exitCodes,
    logFile,
    get hasEnded() {
      return exitCodes.size === tasks.length
    },
    get isStopping() {
      return isStopping
    },
    stop() {
      if (isStopping || exitCodes.size === tasks.length) return
      isStopping = true
      for (const worker of workers) void worker.end(killAfterMs)
    },
  }
}
