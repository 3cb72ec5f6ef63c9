import { availableParallelism } from 'node:os'
import type { EngineOptions } from './engine-options.ts'

/** Threads of an engine when its options leave them open: at most 4, because small models gain little from more. */
export function settleThreads({ threads }: EngineOptions): number {
  return threads ?? Math.min(4, availableParallelism())
}
