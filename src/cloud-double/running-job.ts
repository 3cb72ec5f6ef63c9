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
  /** Times that it was started. */
  readonly starts: number
  /** Of each worker that has ended. */
  readonly exitCodes: ReadonlyMap<string, number>
  /** File with the worker's output. */
  logFile(task: string): string
  /** Ends all workers. */
  stop(): void
}

/** A container's processes are told to end, and have this long to. */
const killAfterMs = 1_000

export interface StartOptions {
  readonly id: string
  readonly folder: string
  readonly imageEnv: Readonly<Record<string, string>>
  /** Whether it was the machine's fault that a job failed. */
  isHardwareFault(): boolean
}

/**
 * Starts the command of a job on as many workers as it has nodes, each with the variables of a training container. When
 * a worker's command ends, all of its processes do; when one fails the others are ended, as the service does. A job that
 * asks for it is started anew after a fault of the hardware, with the same logs.
 */
export function startJob(job: AcceptedJob, { id, folder, imageEnv, isHardwareFault }: StartOptions): RunningJob {
  const exitCodes = new Map<string, number>()
  const tasks = Array.from({ length: job.nodes }, (_, rank) => `worker-${rank}`)
  const logFile = (task: string) => join(folder, `${task}.log`)
  const mostStarts = 1 + Number(job.annotations['fault-tolerance/job-retry-num'] ?? 0)
  let [starts, isStopping] = [1, false]
  const start = (task: string, rank: number) => {
    const dir = join(folder, task)
    mkdirSync(dir, { recursive: true })
    const log = openSync(logFile(task), 'a')
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
      const hasFailed = exitCodes.size === tasks.length && [...exitCodes.values()].some(each => each !== 0)
      if (!hasFailed || isStopping || starts >= mostStarts || !isHardwareFault()) return
      starts++
      exitCodes.clear()
      workers = tasks.map(start)
    })
    return { end }
  }
  let workers = tasks.map(start)
  return {
    tasks,
    exitCodes,
    logFile,
    get starts() {
      return starts
    },
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
