import { InputError } from '../errors.ts'

/** Where the threads meet: words of shared memory, in order from the start of the control area. */
const arrived = 0
const generation = 16
const aborted = 32
const sequence = 48
const command = 49

/** Bytes of the control area: the words above, 64 bytes apart where several threads write. */
export const controlBytes = 256

/** Loads before a waiting thread sleeps; short, because a container may give fewer cores than it shows. */
const spins = 20_000
/** Longest sleep before a waiting thread looks again whether the others are still there. */
const sliceMs = 100

export type Command = 'accumulate' | 'evaluate' | 'update'
const commands: readonly Command[] = ['accumulate', 'evaluate', 'update']

/** Thrown in a thread that waits for one that failed. */
export const aborting = Symbol('another thread failed')

/** Waits until all `threads` are here; each sees what the others wrote before. Throws `aborting` after `abort`. */
export function barrier(words: Int32Array, threads: number): void {
  if (threads === 1) return
  const now = Atomics.load(words, generation)
  if (Atomics.add(words, arrived, 1) === threads - 1) {
    Atomics.store(words, arrived, 0)
    Atomics.add(words, generation, 1)
    Atomics.notify(words, generation)
    return
  }
  for (let spin = 0; spin < spins; spin++) if (Atomics.load(words, generation) !== now) return
  while (Atomics.load(words, generation) === now) {
    if (isAborted(words)) throw aborting
    Atomics.wait(words, generation, now, sliceMs)
  }
}

/** Sends every waiting thread home. */
export function abort(words: Int32Array): void {
  Atomics.store(words, aborted, 1)
  Atomics.notify(words, generation)
  Atomics.notify(words, sequence)
}

/** Whether `abort` was called, by the host or by a thread that failed. */
export function isAborted(words: Int32Array): boolean {
  return Atomics.load(words, aborted) !== 0
}

/** Hands the next command to all threads. */
export function issue(words: Int32Array, next: Command): void {
  Atomics.store(words, command, commands.indexOf(next))
  Atomics.add(words, sequence, 1)
  Atomics.notify(words, sequence)
}

/** Waits for the command after number `seen` (0 for the first). Throws `aborting` after `abort`. */
export function nextCommand(words: Int32Array, seen: number): Command {
  while (Atomics.load(words, sequence) === seen) {
    if (isAborted(words)) throw aborting
    Atomics.wait(words, sequence, seen)
  }
  const next = commands[Atomics.load(words, command)]
  if (next === undefined) throw new InputError(`Command ${Atomics.load(words, command)} is unknown.`)
  return next
}

export interface Span {
  readonly first: number
  readonly count: number
}

/** This rank's part of `n` things, cut at multiples of `unit`, so that vector lanes stay where they are. */
export function split(n: number, rank: number, options: { readonly threads: number; readonly unit?: number }): Span {
  const unit = options.unit ?? 4
  const units = Math.ceil(n / unit)
  const cut = (part: number) => Math.min(n, Math.floor((units * part) / options.threads) * unit)
  return { first: cut(rank), count: cut(rank + 1) - cut(rank) }
}
