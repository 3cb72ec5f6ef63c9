import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from 'ascendflow'
import { openMegatronCheckpoint } from 'ascendflow/formats'
import { beforeAll, describe, expect, it } from 'vitest'
import { readAll, sorted } from '../checkpoint/fixtures/tiny-model.ts'
import { type Fixture, makeFixture, pipeline, told } from './toolchain-fixture.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await makeFixture('modellink-1.1', { native: true })
  const { data, init } = fixture.steps
  await run({ data, init }, { store: fixture.store })
})

/** A training of its own on the same data, from the same weights: 6 iterations, saved every 2. */
const training = (seed: number, options: object = {}) =>
  pipeline(fixture, { native: true, training: { seed, ...options } }).trained

/** All weights, by name. */
async function weights(path: string) {
  const shards = await openMegatronCheckpoint(path, { iteration: 6 })
  try {
    return sorted(await readAll(shards))
  } finally {
    await shards.close()
  }
}

const trainings = async () => (await fixture.double.runs()).map(({ argv }) => argv)
const wordAfter = (argv: readonly string[] | undefined, flag: string) => argv?.[argv.indexOf(flag) + 1]

describe('a training on the toolchain', { timeout: 120_000 }, () => {
  it('goes on from its newest complete checkpoint, says what was lost, and ends as if nothing had happened', async () => {
    await fixture.double.inject({ kind: 'early-exit', at: 5 })
    await fixture.double.inject({ kind: 'torn-zip', at: 6 })
    const { output, retries, lines } = await told(training(1), fixture)
    expect(retries).toEqual([
      expect.stringMatching(/no complete checkpoint of iteration 6 \(the newest complete one is of iteration 4\)/),
      expect.stringMatching(/no complete checkpoint of iteration 6 .*iteration 4\): ✗ .*latest_checkpointed/),
    ])
    expect(lines).toEqual([
      expect.stringMatching(/^goes on from iteration 4; nothing after it is known to be lost$/),
      expect.stringMatching(/^goes on from iteration 4; 2 iterations after it are lost \([\d.e-]+ device-hours\)$/),
    ])
    const words = await trainings()
    expect(words.map(argv => argv.includes('--finetune'))).toEqual([true, false, false])
    const { path } = output as { path: string }
    expect(wordAfter(words[1], '--load')).toBe(path)

    const undisturbed = training(1, { extraArgs: ['--timing-log-level', 0] })
    const whole = await run(undisturbed, { store: fixture.store, on: fixture.npus })
    expect(whole.path).not.toBe(path)
    expect(await weights(path)).toEqual(await weights(whole.path))
  })

  it.each([
    ['torn-tracker', 2],
    ['torn-rank', 3],
  ] as const)('does not believe a checkpoint with a %s', async (kind, seed) => {
    await fixture.double.inject({ kind, at: 6 })
    const { output, retries } = await told(training(seed), fixture)
    expect(retries).toHaveLength(1)
    const { path } = output as { path: string }
    expect(await readFile(join(path, 'latest_checkpointed_iteration.txt'), 'utf8')).toBe('6')
    await weights(path)
  })

  it('begins again where no checkpoint is complete', async () => {
    await fixture.double.inject({ kind: 'torn-rank', at: 6 })
    const { lines, output } = await told(training(4, { saveInterval: 6 }), fixture)
    expect(lines).toEqual([expect.stringMatching(/^begins again: no checkpoint is complete; 6 iterations after/)])
    await weights((output as { path: string }).path)
  })

  it('of adapters goes on over its base, and is merged on the way back', async () => {
    const lora = { r: 4, alpha: 8, targets: ['linear_qkv', 'linear_fc2'] }
    const { hf } = pipeline(fixture, { native: true, training: { lora, lr: 1e-2 } })
    const before = (await trainings()).length
    await fixture.double.inject({ kind: 'torn-zip', at: 6 })
    const { retries, lines } = await told(hf, fixture)
    expect([retries.length, lines.length]).toEqual([1, 1])
    const [fresh, resumed, exported] = (await trainings()).slice(before)
    expect(wordAfter(fresh, '--load')).toBe(wordAfter(resumed, '--load'))
    expect([fresh?.includes('--lora-load'), wordAfter(resumed, '--lora-load')]).toEqual([
      false,
      wordAfter(resumed, '--save'),
    ])
    expect([wordAfter(exported, '--load-dir'), wordAfter(exported, '--lora-dir')]).toEqual([
      wordAfter(fresh, '--load'),
      wordAfter(fresh, '--save'),
    ])
  })
})
