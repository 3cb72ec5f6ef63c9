import { LayoutError } from '../errors.ts'
import { type MemoryParts, planArena } from './arena.ts'
import type { EngineOptions } from './engine-options.ts'
import { settleThreads } from './threads.ts'

/** What the engine would take for these options, in bytes, and for what. Allocates nothing. */
export function estimateTrainerMemory(options: EngineOptions): { readonly bytes: number; readonly parts: MemoryParts } {
  const { bytes, parts } = planArena(options, settleThreads(options))
  return { bytes, parts }
}

/** What to try when the memory does not fit. */
export const smallerModel = 'Try a smaller microBatchSize or seqLength, LoRA, or a smaller model.'

/** WebAssembly's 32-bit addresses. */
const largestMemory = 2 ** 32

/** @throws LayoutError when the engine's memory cannot be had: beyond 4 GiB, or beyond `available` bytes of the machine. */
export function requireMemory({ bytes, parts }: { bytes: number; parts: MemoryParts }, available: number): void {
  const limit = Math.min(largestMemory, available)
  if (bytes <= limit) return
  const reason =
    limit === largestMemory ? 'the embedded trainer can address 4 GiB' : `this machine has ${size(available)} left`
  const spent = Object.entries(parts).map(([part, value]) => `${part} ${size(value)}`)
  throw new LayoutError(`Training needs ${size(bytes)} (${spent.join(', ')}), but ${reason}.`, {
    hint: smallerModel,
  })
}

function size(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.ceil(bytes / 2 ** 20)} MiB`
}
