import { createHash } from 'node:crypto'

/**
 * Port on which the nodes of job `id` meet: from 20,000 to 29,999, below those that Linux hands out by itself, and
 * nearly always another for another job, so that jobs at the same time do not meet each other.
 */
export function masterPort(id: string): number {
  return 20_000 + (createHash('sha256').update(id).digest().readUInt32BE(0) % 10_000)
}
