import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import type { ToolchainFault } from 'ascendflow/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseIterationLine, parseValidationLine } from '../../src/ascendspeed/iteration-line.ts'
import { prepareTraining, runCommand, train } from './double-fixture.ts'

let work: Awaited<ReturnType<typeof prepareTraining>>
let runs = 0

beforeAll(async () => {
  work = await prepareTraining('modellink-1.1')
})
afterAll(() => work.forget())

async function freePort(): Promise<number> {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A training on two nodes of two devices, with a fault. */
async function onTwoNodes(fault?: ToolchainFault, options: { node?: number } = {}) {
  runs += 1
  const validation = { path: join(work.dir, 'pre_text_document'), evalInterval: 2, evalIters: 1 }
  const save = join(work.dir, `two-${runs}`)
  const command = train(work, { save, nodes: 2, devicesPerNode: 2, validation })
  if (fault) await work.double.inject(fault, options)
  const port = await freePort()
  const ends = await Promise.all([0, 1].map(rank => runCommand(work, command, { rank, port })))
  return {
    save,
    ends,
    iterations: ends.map(({ out }) => out.flatMap(line => parseIterationLine(line)?.iteration ?? [])),
  }
}

const errors = ({ err }: { err: readonly string[] }) => err.join('\n')

describe('a training of the double on two nodes', () => {
  it('prints iterations on the last one, the rest on the first', async () => {
    const { ends, iterations, save } = await onTwoNodes()
    expect(ends.map(({ status }) => status)).toEqual([0, 0])
    expect(iterations).toEqual([[], [1, 2, 3, 4]])
    expect(ends[0]!.out[0]).toMatch(/^using world size: 4, data-parallel size: 1,/)
    const validations = ends[1]!.out.flatMap(line => parseValidationLine(line) ?? [])
    expect(validations.map(({ iteration, set }) => [iteration, set])).toEqual([
      [2, undefined],
      [4, undefined],
      [4, 'validation'],
    ])
    expect(ends[1]!.out).toHaveLength(4 + 3 * validations.length)
    expect(existsSync(join(save, 'iter_0000004'))).toBe(true)
    expect((await work.double.runs()).map(({ node }) => node).sort()).toEqual([0, 1])
  })

  it('leaves the first waiting for a lost one, until HCCL gives up', async () => {
    const { ends, iterations } = await onTwoNodes({ kind: 'lost-node', at: 3 })
    expect(ends.map(({ status, signal }) => [status, signal])).toEqual([
      [1, null],
      [null, 'SIGKILL'],
    ])
    expect(errors(ends[0]!)).toMatch(/^EI0002: .* The wait execution of the Notify register times out/m)
    expect(iterations[1]).toEqual([1, 2])
  })

  it.each([0, 1])('ends on both when node %d runs out of memory, which only that one says', async node => {
    const { ends } = await onTwoNodes({ kind: 'device-oom', at: 2 }, { node })
    expect(ends.map(({ status }) => status)).toEqual([1, 1])
    expect(errors(ends[node]!)).toMatch(/NPU out of memory/)
    expect(errors(ends[1 - node]!)).toMatch(/EI0002/)
    expect(errors(ends[1 - node]!)).not.toMatch(/out of memory/)
  })

  it('ends on both with success where the first takes a failure for one', async () => {
    const { ends, iterations } = await onTwoNodes({ kind: 'unreadable-checkpoint' })
    expect(ends.map(({ status }) => status)).toEqual([0, 0])
    expect(iterations).toEqual([[], []])
  })

  it.each([0, 1])('node %d gives up alone after HCCL_CONNECT_TIMEOUT seconds', async rank => {
    const command = train(work, { nodes: 2, devicesPerNode: 2 })
    const env = { HCCL_CONNECT_TIMEOUT: '0.2' }
    const ended = await runCommand(work, command, { rank, port: await freePort(), env })
    expect(ended.status).toBe(1)
    expect(errors(ended)).toMatch(/^EI0006: .* Getting socket times out/m)
  })
})
