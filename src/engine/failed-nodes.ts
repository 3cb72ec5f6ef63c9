import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { FailedNode } from '../flow/executor.ts'
import type { JobEnd } from '../flow/job-watch.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import type { JobFailure } from '../job-failure.ts'

const FailedNodeNote = z.object({
  job: z.looseObject({ executor: z.string(), id: z.string() }),
  node: z.int().nonnegative(),
})

/**
 * The rank of the node that has to be left out after a failure; undefined where none has to be, or none is known. A node
 * speaks of its own devices; of one that is gone only its executor knows, since those that say so are the others.
 */
export function nodeToLeaveOut(
  { kind, retry, evidence }: JobFailure,
  { node, nodes }: Pick<JobEnd, 'node'> & { readonly nodes: number | undefined },
): number | undefined {
  if (retry !== 'elsewhere') return undefined
  if (nodes === 1) return 0
  return kind === 'device-fault' ? evidence?.node : node
}

/** Notes down, in the attempt's folder, where it failed; a disk that is full is let pass. */
export async function noteFailedNode(attempts: string, attempt: number, failed: FailedNode): Promise<void> {
  await writeWhole(join(attempts, String(attempt), name), JSON.stringify(failed)).catch(() => {})
}

/** Where attempts before `attempt` failed. */
export async function failedNodes(attempts: string, attempt: number): Promise<readonly FailedNode[]> {
  const before = (await readdir(attempts).catch(() => [])).map(Number).filter(n => n < attempt)
  const found = await Promise.all(
    before
      .sort((a, b) => a - b)
      .map(async n => {
        const text = await readFile(join(attempts, String(n), name), 'utf8').catch(() => undefined)
        return text === undefined ? [] : [FailedNodeNote.parse(JSON.parse(text))]
      }),
  )
  return found.flat()
}

const name = 'failed-node.json'
