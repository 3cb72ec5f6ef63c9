import { join } from 'node:path'
import { megatronCheckpoint, plan, type Ref, run, train } from 'ascendflow'
import { openMegatronCheckpoint } from 'ascendflow/formats'
import { beforeAll, describe, expect, it } from 'vitest'
import { readAll, sorted } from '../checkpoint/fixtures/tiny-model.ts'
import { type Fixture, makeFixture } from './toolchain-fixture.ts'

let fixture: Fixture
beforeAll(async () => {
  fixture = await makeFixture('modellink-1.1', { native: true })
  const { data, init } = fixture.steps
  await run({ data, init }, { store: fixture.store })
})

type TrainInput = Parameters<typeof train>[0]

/** 6 iterations, saved every 2, from weights cut tp 2 · pp 1; with other input than that if need be. */
function training(seed: number, more: Readonly<Record<string, unknown>> = {}) {
  const { base, toolchain, steps } = fixture
  const numbers = { seqLength: 256, globalBatchSize: 2, lr: 1e-3, trainIters: 6, saveInterval: 2, seed }
  const input = { data: steps.data, init: steps.init, tokenizer: base, ...numbers, toolchain, ...more }
  return train(input as TrainInput, { retryDelayMs: 1, name: `train-${seed}` })
}

const options = () => ({ store: fixture.store, on: fixture.npus })
const facts = async (target: Ref<unknown>) =>
  Object.fromEntries((await plan(target, options())).steps.map(({ name, state, facts }) => [name, [state, facts[0]]]))

/** Where the store keeps the checkpoints of a training that failed. */
async function checkpointsOf(target: Ref<unknown>): Promise<string> {
  const step = (await plan(target, options())).steps.find(({ step }) => step === 'train')!
  return join(fixture.store, 'steps', `train-${step.key.slice(0, 12)}`, 'work', 'checkpoint')
}

async function weights(path: string) {
  const shards = await openMegatronCheckpoint(path)
  try {
    return sorted(await readAll(shards))
  } finally {
    await shards.close()
  }
}

const lastWords = async () => (await fixture.double.runs()).at(-1)!.argv

describe('a training in another layout than its weights', { timeout: 120_000 }, () => {
  it('goes on, once they are resharded, to the very weights of one that nothing happened to', async () => {
    await fixture.double.inject({ kind: 'device-oom', at: 5 })
    const failing = training(1)
    await expect(run(failing, options())).rejects.toThrow(/device-oom/)
    const left = await megatronCheckpoint(await checkpointsOf(failing), { like: fixture.base })
    expect(left).toMatchObject({ iteration: 4, tp: 2, pp: 1, layout: 'legacy' })

    const on = training(1, { init: left, finetune: false, parallel: { tp: 1, pp: 2 } })
    expect(await facts(on)).toMatchObject({
      'train-1-reshard': ['ready', 'tp 2 · pp 1 → tp 1 · pp 2'],
      'train-1': ['waiting', expect.stringMatching(/^tp 1 · pp 2 · dp 1/)],
    })
    // Killed before its first save, it begins there again.
    await fixture.double.inject({ kind: 'host-oom', at: 6 })
    const { path, ...trained } = await run(on, options())
    expect(trained).toMatchObject({ iteration: 6, tp: 1, pp: 2 })
    const commands = (await fixture.double.runs()).slice(-2).map(({ argv }) => argv)
    for (const argv of commands) expect(argv).not.toContain('--finetune')
    expect(commands.map(argv => argv.includes('--no-load-rng'))).toEqual([true, true])
    expect(await facts(on)).toMatchObject({
      'train-1-reshard': ['recorded', 'iteration 4'],
      'train-1': ['recorded', {}],
    })

    const whole = await run(training(1, { saveInterval: 3 }), options())
    expect(await weights(path)).toEqual(await weights(whole.path))
  })

  it('begins with them, resharded without what an optimizer left', async () => {
    const begun = training(2, { parallel: { tp: 1, pp: 2 } })
    expect(Object.keys(await facts(begun))).toContain('train-2-reshard')
    const { path } = await run(begun, options())
    expect(await lastWords()).toEqual(expect.arrayContaining(['--finetune', '--no-load-optim', '--no-load-rng']))
    const whole = await run(training(2), options())
    expect(await weights(path)).toEqual(await weights(whole.path))
  })

  it('is resharded for other stages too, and not where only the words differ', async () => {
    const uneven = training(3, { parallel: { pp: 2, tp: 1, layersPerStage: [3, 1] } })
    expect(await facts(uneven)).toHaveProperty('train-3-reshard')
    const again = await plan(uneven, { ...options(), rerun: ['train-3-reshard'] })
    expect(again.steps.map(({ reason }) => reason).slice(-2)).toEqual(['asked for again', 'asked for again'])
    expect(await facts(training(3, { parallel: { tp: 2 } }))).not.toHaveProperty('train-3-reshard')
  })

  it('is done by the embedded trainer as well, which goes on from its own state', async () => {
    const own = { toolchain: undefined, lrDecayIters: 6, saveInterval: 6 }
    const half = training(4, { ...own, trainIters: 3 })
    const on = training(5, { ...own, seed: 4, init: half, finetune: false, parallel: { tp: 1, pp: 2 } })
    expect(await facts(on)).toMatchObject({ 'train-5-reshard': ['waiting', 'tp 2 · pp 1 → tp 1 · pp 2'] })
    const whole = training(6, { ...own, seed: 4 })
    const out = await run({ on, whole }, options())
    expect(out.on).toMatchObject({ iteration: 6, tp: 1, pp: 2 })
    expect(await weights(out.on.path)).toEqual(await weights(out.whole.path))
  })

  it.each<[string, Readonly<Record<string, unknown>>, RegExp]>([
    ['nothing is left to train', { trainIters: 4 }, /init is at iteration 4, and the training ends at 4/],
    ['it trains adapters', { lora: {} }, /adapters does not go on from another call/],
    [
      'the embedded trainer cannot save it',
      { toolchain: undefined, parallel: { pp: 2, layersPerStage: [3, 1] } },
      /no like of stages of unequal/,
    ],
    ['it asks the embedded trainer for savings', { toolchain: undefined, recompute: 'full' }, /no like of recompute/],
    ['layers are recomputed only in part of nothing', { recomputeNumLayers: 2 }, /goes with recompute: 'full'/],
    [
      'legacy models are to share contexts',
      { parallel: { cp: 2 }, devicesPerNode: 4 },
      /cp 2 works with Megatron core's/,
    ],
  ])('is refused before anything runs where %s', async (_, more, message) => {
    const half = training(4, { trainIters: 4 })
    await expect(plan(training(7, { init: half, finetune: false, ...more }), options())).rejects.toThrow(message)
  })
})

describe('megatronCheckpoint', () => {
  it('refuses a folder that holds nothing complete', async () => {
    await expect(megatronCheckpoint(fixture.base.path, { like: fixture.base })).rejects.toThrow(
      /no complete checkpoint/,
    )
  })
})
