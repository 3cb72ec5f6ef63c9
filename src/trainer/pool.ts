import { Worker } from 'node:worker_threads'
import { InputError, JobError } from '../errors.ts'
import { programPath } from '../program-path.ts'
import type { Arena } from './arena.ts'
import type { RankData } from './rank.ts'
import { abort, type Command, controlBytes, isAborted, issue } from './sync.ts'

/** The worker threads of one engine. */
export interface Pool {
  /**
   * Runs a command on all ranks, after `prepare` has put its input into the memory.
   * @throws InputError while another runs or after `close`; JobError when a rank fails or dies, then and ever after.
   */
  run(command: Command, prepare?: () => void): Promise<void>
  /** Ends the workers; a command still running is rejected. */
  close(): Promise<void>
  readonly workers: readonly Worker[]
}

/** Starts one worker per rank of `arena`. They do not keep the process alive between commands. */
export function startPool(
  arena: Arena,
  { module, memory }: { module: WebAssembly.Module; memory: WebAssembly.Memory },
): Pool {
  const words = new Int32Array(memory.buffer, arena.control, controlBytes / 4)
  let running: { resolve: () => void; reject: (error: Error) => void } | undefined
  let failure: Error | undefined
  let ended = 0
  const settle = (error?: Error) => {
    if (running === undefined) return
    const { resolve, reject } = running
    running = undefined
    for (const worker of workers) worker.unref()
    if (error) reject(error)
    else resolve()
  }
  const fail = (error: Error) => {
    failure ??= error
    abort(words)
    settle(failure)
  }
  const workers = Array.from({ length: arena.threads }, (_, index) => {
    const workerData: RankData = { index, arena, module, memory }
    const worker = new Worker(programPath('trainer-worker'), {
      workerData,
      execArgv: [],
      name: `trainer rank ${index}`,
    })
    worker.on('message', () => settle())
    worker.on('error', cause => fail(lost(index, arena.threads, cause)))
    worker.on('exit', () => {
      ended++
      // A rank that leaves because another failed is not the news: that one's error is on its way.
      if (!isAborted(words) || ended === arena.threads) fail(lost(index, arena.threads))
    })
    worker.unref()
    return worker
  })
  return {
    workers,
    run(command, prepare) {
      if (failure) return Promise.reject(failure)
      if (running) return Promise.reject(new InputError('The trainer engine is busy: await one call before the next.'))
      prepare?.()
      return new Promise((resolve, reject) => {
        running = { resolve, reject }
        for (const worker of workers) worker.ref()
        issue(words, command)
      })
    },
    async close() {
      fail(new InputError('The trainer engine is closed.'))
      await Promise.all(workers.map(worker => worker.terminate()))
    },
  }
}

function lost(index: number, threads: number, cause?: unknown): JobError {
  const reason = cause instanceof Error ? `failed: ${cause.message}.` : 'ended without a word.'
  return new JobError(`Trainer thread ${index} of ${threads} ${reason}`, {
    ...{ executor: 'trainer', job: `rank ${index}`, retryable: true, logTail: [], cause },
    hint: 'Continue from the last checkpoint; if it happens again, try a smaller micro-batch or fewer threads.',
  })
}
