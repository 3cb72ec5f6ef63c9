import type { FailedNode, JobUpdate } from 'ascendflow'
import { run } from 'ascendflow'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { defineStep } from '../../src/flow/step.ts'
import type { FailureKind, JobFailure } from '../../src/job-failure.ts'
import { newFolder, scripted, succeeded } from './steps.ts'

let store: string
beforeEach(async () => {
  store = await newFolder()
})

/** A job of `nodes` nodes that always fails as `failure` says. */
const failing = (nodes: number, failure: JobFailure) =>
  defineStep({ name: 'job', version: 1, input: z.object({}), output: z.object({}) }).job({
    launch: () => ({ argv: ['work'], nodes, devicesPerNode: 8 }),
    watch: () => ({ read: () => [], dueAt: () => undefined, overdue: () => [], diagnose: () => failure }),
    collect: () => ({}),
  })

const words = { cause: 'it broke', advice: 'Mend it.', retry: 'elsewhere' } as const
const said = (kind: FailureKind, node?: number): JobFailure => ({
  ...{ kind, ...words },
  ...(node === undefined ? {} : { evidence: { line: 'broken', number: 1, node } }),
})

describe('a job that is to be tried elsewhere', () => {
  it.each<[string, number, JobFailure, Partial<JobUpdate>, number | undefined]>([
    ['a device says is broken', 4, said('device-fault', 2), {}, 2],
    ['its executor says is lost, whoever tells of it', 4, said('lost-node', 1), { node: 3 }, 3],
    ['is its only one', 1, said('device-fault'), {}, 0],
    ['nobody can name', 4, said('lost-node', 1), {}, undefined],
    ['is not to blame', 4, { ...said('hccl-timeout', 1), retry: 'later' }, { node: 1 }, undefined],
  ])('is kept away from the node that %s', async (_, nodes, failure, end, node) => {
    const seen: (readonly FailedNode[] | undefined)[] = []
    const { executor } = scripted(
      id => [id.endsWith('-3') ? succeeded : ({ type: 'state', state: 'lost', ...end } as JobUpdate)],
      {
        submit: async (_launch, { id, avoid }) => {
          seen.push(avoid)
          return { executor: 'scripted', id, ...(avoid ? { leftOut: ['node-x'] } : {}) }
        },
      },
    )
    const running = run(failing(nodes, failure)({}, { retryDelayMs: 0 }), { store, on: executor })
    const lines: string[] = []
    running.on('step.log', ({ line }) => void lines.push(line))
    await running
    const ids = (some: readonly FailedNode[] | undefined) =>
      some?.map(({ job, node }) => `${job.id.slice(-1)}: ${node}`)
    expect(seen.map(ids)).toEqual(
      node === undefined
        ? [undefined, undefined, undefined]
        : [undefined, [`1: ${node}`], [`1: ${node}`, `2: ${node}`]],
    )
    const told = 'leaves out node-x, where an earlier try failed'
    expect(lines).toEqual(node === undefined ? [] : [told, told])
  })

  it('says so where its executor cannot choose', async () => {
    const { executor } = scripted(id => [id.endsWith('-2') ? succeeded : { type: 'state', state: 'lost' }])
    const running = run(failing(1, said('device-fault'))({}, { retryDelayMs: 0 }), { store, on: executor })
    const lines: string[] = []
    running.on('step.log', ({ line }) => void lines.push(line))
    await running
    expect(lines).toEqual(['scripted cannot leave out the node where an earlier try failed: it may be used again'])
  })
})
