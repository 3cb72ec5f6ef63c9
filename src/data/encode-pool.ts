import { Worker } from 'node:worker_threads'
import { FlowError } from '../errors.ts'
import type { RecordBatch } from '../formats/record-batch.ts'
import { programPath } from '../program-path.ts'
import { receivedError, type SentError } from '../sent-error.ts'
import type { EncodeSettings, TokenizerFacts } from './corpus-encoder.ts'
import type { EncodedBlock } from './encode-rows.ts'
import type { LineRange } from './json-line-ranges.ts'
import type { TokenizerImage } from './tokenizer/tokenizer-image.ts'

export type EncodeTask = {
  readonly index: number
  readonly jsonKeys: readonly string[]
  /** Memory for ids, which had those of a block that is done with. */
  readonly rooms?: readonly ArrayBuffer[] | undefined
} & EncodeWork

/** Lines that a thread reads for itself, or rows that were read. */
export type EncodeWork = { readonly range: LineRange } | { readonly rows: EncodeRows }

export type EncodeRows = Pick<RecordBatch, 'file' | 'records' | 'bytesRead'>

/** What a thread is told first: the tokenizer, or that it has to load it. */
export interface EncodeStart {
  readonly image: TokenizerImage | undefined
}

/** What a thread says: once what its tokenizer is like, then the blocks of its tasks, or why there is none. */
export type EncodeReply =
  | { readonly facts: TokenizerFacts }
  | { readonly index: number; readonly block: EncodedBlock }
  | { readonly index?: number; readonly failed: SentError }

/** Threads that encode rows. */
export interface EncodePool {
  readonly threads: number
  /** Resolves when the first thread is ready. */
  readonly facts: Promise<TokenizerFacts>
  encode(work: EncodeWork, jsonKeys: readonly string[]): Promise<EncodedBlock>
  /** Takes back the memory of a block that is done with. */
  release(rooms: readonly ArrayBuffer[]): void
  close(): Promise<void>
}

/** What a row leaves behind dies young: a small nursery costs no time, and saves some 25 MB a thread. */
const resourceLimits = { maxYoungGenerationSizeMb: 24 }

/** Tasks that a thread has at a time: one in work, one waiting, so that it never waits for this thread. */
export const tasksAhead = 2

/**
 * Starts `threads` threads, which share the tables of `image`; where there is none each loads the tokenizer. Tasks are
 * taken up in the order in which they come.
 */
export function createEncodePool(
  settings: EncodeSettings,
  { threads, image }: { threads: number; image: Promise<TokenizerImage | undefined> },
): EncodePool {
  const waiting: EncodeTask[] = []
  const free: (readonly ArrayBuffer[])[] = []
  const pending = new Map<number, PromiseWithResolvers<EncodedBlock>>()
  const ready = withResolvers<TokenizerFacts>()
  ready.promise.catch(() => {})
  let tasks = 0
  let failure: unknown
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(programPath('encode-worker'), { workerData: settings, execArgv: [], resourceLimits })
    const member = { worker, busy: 0 }
    worker.on('message', (reply: EncodeReply) => {
      if ('facts' in reply) return ready.resolve(reply.facts)
      if (reply.index === undefined) return 'failed' in reply ? fail(receivedError(reply.failed)) : undefined
      member.busy--
      dispatch()
      if ('block' in reply) settle(reply.index)?.resolve(reply.block)
      else settle(reply.index)?.reject(receivedError(reply.failed))
    })
    worker.on('error', fail)
    worker.on('exit', code =>
      fail(new FlowError('step-failed', `A thread that encodes text ended unexpectedly with status ${code}.`)),
    )
    return member
  })
  // The threads get ready while the tokenizer is loaded.
  image.then(loaded => {
    for (const { worker } of workers) worker.postMessage({ image: loaded } satisfies EncodeStart)
  }, fail)

  function fail(error: unknown): void {
    failure ??= error
    ready.reject(failure)
    for (const index of [...pending.keys()]) settle(index)?.reject(failure)
  }

  function settle(index: number) {
    const promise = pending.get(index)
    pending.delete(index)
    return promise
  }

  function dispatch(): void {
    for (const member of [...workers].sort((a, b) => a.busy - b.busy)) {
      const task = member.busy < tasksAhead ? waiting.shift() : undefined
      if (!task) continue
      member.busy++
      const rooms = free.pop()
      member.worker.postMessage({ ...task, rooms } satisfies EncodeTask, rooms ?? [])
    }
  }

  return {
    threads,
    facts: ready.promise,
    encode(work, jsonKeys) {
      const index = tasks++
      const promise = withResolvers<EncodedBlock>()
      promise.promise.catch(() => {})
      pending.set(index, promise)
      waiting.push({ index, jsonKeys, ...work })
      if (failure === undefined) dispatch()
      else settle(index)?.reject(failure)
      return promise.promise
    },
    release: rooms => void free.push(rooms),
    async close() {
      for (const { worker } of workers) worker.removeAllListeners()
      await Promise.all(workers.map(({ worker }) => worker.terminate()))
    },
  }
}

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>
  resolve(value: T): void
  reject(reason: unknown): void
}

/** `Promise.withResolvers`, which Node 20 does not have. */
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}
