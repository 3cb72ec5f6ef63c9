import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Artifact, defineArtifact, defineStep, type Executor, type JobHandle, type JobUpdate } from 'ascendflow'
import { z } from 'zod'

export const newFolder = () => mkdtemp(join(tmpdir(), 'ascendflow-'))

export const Text = defineArtifact<Artifact>('text', {})

/** Writes `content` to a file of its own and counts how often it ran in `counter`. */
export const write = defineStep({
  name: 'write',
  version: 1,
  input: z.object({ content: z.string(), counter: z.string().optional() }),
  output: Text,
  omitFromKey: ['counter'],
}).run(async ({ content, counter }, { workDir }) => {
  if (counter) await writeFile(counter, 'x', { flag: 'a' })
  const path = join(workDir, 'text.txt')
  await writeFile(path, content)
  return { kind: 'text', path }
})

/** Joins texts. */
export const join2 = defineStep({
  name: 'join',
  version: 1,
  input: z.object({ texts: z.array(Text) }),
  output: z.object({ text: z.string() }),
}).run(async ({ texts }) => ({ text: (await Promise.all(texts.map(({ path }) => readFile(path, 'utf8')))).join('+') }))

/** A job whose command does not matter: a scripted executor says how it goes. */
export const job = defineStep({
  name: 'job',
  version: 1,
  input: z.object({ n: z.number() }),
  output: z.object({ n: z.number() }),
}).job({
  launch: ({ n }) => ({ argv: ['work', n], nodes: 1, devicesPerNode: 0 }),
  metricsFrom: line => (line.startsWith('loss ') ? { loss: Number(line.slice(5)) } : undefined),
  collect: ({ n }) => ({ n }),
})

export interface Script {
  readonly submitted: string[]
  readonly cancelled: string[]
  readonly executor: Executor
}

/** An executor whose jobs go as `updates` says: called with the id, it gives what watching it tells. */
export function scripted(
  updates: (id: string, signal: AbortSignal) => Iterable<JobUpdate> | AsyncIterable<JobUpdate>,
  overrides: Partial<Executor> = {},
): Script {
  const submitted: string[] = []
  const cancelled: string[] = []
  return {
    submitted,
    cancelled,
    executor: {
      name: 'scripted',
      describe: launch => launch.argv.join(' '),
      submit: async (_, { id }) => {
        submitted.push(id)
        return { executor: 'scripted', id }
      },
      watch: async function* (handle: JobHandle, { signal }) {
        yield* updates(handle.id, signal)
      },
      cancel: async ({ id }) => void cancelled.push(id),
      ...overrides,
    },
  }
}

export const succeeded: JobUpdate = { type: 'state', state: 'succeeded', exitCode: 0 }

/** A job that tells that it runs and then nothing until watching is stopped. */
export async function* endless(_: string, signal: AbortSignal): AsyncIterable<JobUpdate> {
  yield { type: 'state', state: 'running' }
  await aborted(signal)
}

/** Rejects with the signal's reason when it is aborted, or at once when it is already. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason))
  })
}
