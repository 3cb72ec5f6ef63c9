import { Worker } from 'node:worker_threads'
import { FlowError } from '../errors.ts'
import type { FilePlace } from '../formats/file-place.ts'
import type { StoredPiece } from '../formats/row-reader.ts'
import type { Dtype, TensorInfo } from '../formats/tensor.ts'
import { programPath } from '../program-path.ts'
import { receivedError, type SentError } from '../sent-error.ts'
import type { ShardSection } from './shard-sections.ts'

/** A section that a thread copies by itself. */
export interface CopyTask {
  readonly section: ShardSection
  /** The tensors that it reads. */
  readonly tensors: readonly (TensorInfo & { readonly pieces: readonly StoredPiece[] })[]
  /** Stored type. */
  readonly dtype: Dtype
  /** Where the shard of each rank goes. */
  readonly places: readonly FilePlace[]
}

/** What a thread says of each task, in their order: the CRC-32s of what it wrote, in the order of `section.shards`. */
export type CopyReply = { readonly crcs: readonly number[] } | { readonly failed: SentError }

/** Threads that copy weights. */
export interface CopyPool {
  /**
   * Gives the CRC-32s of what was written. Tasks of a batch are taken up in the order in which they come; of several
   * batches threads take different ones, since writers of the same file wait for each other.
   */
  copy(task: CopyTask, batch: object): Promise<readonly number[]>
  /** Ends the threads, between two blocks; tasks that are not done are rejected with `reason`. */
  close(reason?: unknown): Promise<void>
}

/** Tasks that a thread has at a time: one in work, one waiting, so that it never waits for this thread. */
const tasksAhead = 2

/** A thread needs little but its buffers: a small heap saves memory. */
const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 }

/** Starts `threads` threads. After the first error nothing is copied any more: all tasks are rejected with it. */
export function createCopyPool(threads: number): CopyPool {
  interface Pending {
    readonly task: CopyTask
    readonly resolve: (crcs: readonly number[]) => void
    readonly reject: (error: unknown) => void
  }
  const waiting = new Map<object, Pending[]>()
  let ending: Promise<void> | undefined
  let failure: unknown
  const members = Array.from({ length: threads }, () => {
    const worker = new Worker(programPath('copy-worker'), { execArgv: [], resourceLimits })
    const member = { worker, taken: [] as Pending[], batch: undefined as object | undefined }
    worker.on('message', (reply: CopyReply) => {
      if ('failed' in reply) return void end(receivedError(reply.failed))
      const { resolve } = member.taken.shift()!
      dispatch()
      resolve(reply.crcs)
    })
    worker.on('error', error => void end(error))
    worker.on('exit', code =>
      end(new FlowError('step-failed', `A thread that copies weights ended unexpectedly with status ${code}.`)),
    )
    return member
  })

  // No byte is written any more when the tasks are rejected.
  function end(reason: unknown): Promise<void> {
    failure ??= reason
    ending ??= Promise.all(members.map(({ worker }) => worker.terminate())).then(() => {
      for (const { reject } of [...members.flatMap(({ taken }) => taken.splice(0)), ...[...waiting.values()].flat()])
        reject(failure)
    })
    return ending
  }

  // Of the batch on which the fewest others are at work; rather of its own than of another one.
  function nextFor(member: (typeof members)[number]): Pending | undefined {
    const others = (batch: object): number => members.filter(it => it !== member && it.batch === batch).length
    const order = (batch: object): number => 2 * others(batch) - Number(member.batch === batch)
    const [batch] = [...waiting.keys()].sort((a, b) => order(a) - order(b))
    if (batch === undefined) return undefined
    member.batch = batch
    const tasks = waiting.get(batch)!
    if (tasks.length === 1) waiting.delete(batch)
    return tasks.shift()
  }

  function dispatch(): void {
    for (const member of [...members].sort((a, b) => a.taken.length - b.taken.length)) {
      const next = member.taken.length < tasksAhead && !ending ? nextFor(member) : undefined
      if (!next) continue
      member.taken.push(next)
      member.worker.postMessage(next.task)
    }
  }

  return {
    copy(task, batch) {
      if (ending) return ending.then(() => Promise.reject(failure))
      return new Promise((resolve, reject) => {
        const tasks = waiting.get(batch) ?? []
        waiting.set(batch, tasks)
        tasks.push({ task, resolve, reject })
        dispatch()
      })
    },
    close: (reason = new FlowError('cancelled', 'Copying was ended.')) => end(reason),
  }
}
