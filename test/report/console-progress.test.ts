import { join } from 'node:path'
import { Writable } from 'node:stream'
import { defineStep, type JobUpdate, run } from 'ascendflow'
import { showProgress } from 'ascendflow/report'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { formatValidationLines } from '../../src/ascendspeed/iteration-line.ts'
import { WatchPolicy } from '../../src/ascendspeed/watch-policy.ts'
import { watchTraining } from '../../src/ascendspeed/watch-training.ts'
import { job, newFolder, scripted, succeeded, write } from '../engine/steps.ts'

function memory(isTTY: boolean) {
  let text = ''
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk
      done()
    },
  })
  return { stream: Object.assign(stream, { isTTY, columns: 100 }) as unknown as NodeJS.WriteStream, text: () => text }
}

it('a run without a terminal is told in lines: what was recorded, done and failed', async () => {
  const store = join(await newFolder(), 'store')
  const { stream, text } = memory(false)
  await run(write({ content: 'a' }), { store })
  const { executor } = scripted(() => [{ type: 'state', state: 'failed', exitCode: 2 } satisfies JobUpdate])
  const running = run({ w: write({ content: 'a' }), j: job({ n: 1 }) }, { store, on: executor })
  showProgress(running, { stream })
  await running.catch(() => {})
  expect(text()).toMatch(/^✓ write {2}recorded\n✗ job: Job job-\S+ on scripted ended as failed with exit code 2\.\n$/)
})

it('a run on a terminal shows a bar with the loss, and a line for each step that has ended', async () => {
  const store = join(await newFolder(), 'store')
  const { stream, text } = memory(true)
  const { executor } = scripted(async function* () {
    // The bar's library is loaded when a terminal first needs it, and bars are drawn ten times a second.
    await import('cli-progress')
    for (let n = 0; n < 300; n++) {
      yield { type: 'log', line: `loss ${n}` }
      await new Promise(resolve => setImmediate(resolve))
    }
    yield succeeded
  })
  const running = run(job({ n: 1 }), { store, on: executor })
  showProgress(running, { stream })
  await running
  expect(text()).toContain('✓ job')
})

it('a measurement that the end of a training tells once more is said once', async () => {
  const measuring = defineStep({ name: 'train', version: 1, input: z.object({}), output: z.object({}) }).job({
    launch: () => ({ argv: ['train'], nodes: 1, devicesPerNode: 0 }),
    watch: (_, facts) => watchTraining({ policy: WatchPolicy.parse({}), seqLength: 1, globalBatchSize: 1 }, facts),
    collect: () => ({}),
  })
  const at = (iteration: number, loss: number, set?: 'validation' | 'test') =>
    formatValidationLines({ iteration, loss, ...(set && { set }) }).map((line): JobUpdate => ({ type: 'log', line }))
  const lines = [at(5, 3), at(10, 2), at(10, 2, 'validation'), at(10, 2.5, 'test')].flat()
  const { executor } = scripted(() => [...lines, succeeded])
  const { stream, text } = memory(false)
  const running = run(measuring({}), { store: join(await newFolder(), 'store'), on: executor })
  showProgress(running, { stream })
  await running
  expect(text().match(/\w+ loss .*/g)).toEqual([
    ...[
      'validation loss 3.000 at iteration 5',
      'validation loss 2.000 at iteration 10',
      'test loss 2.500 at iteration 10',
    ],
  ])
})
