import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { corpus, hfToMegatron, megatronToHf, plan, preprocess, run, train } from 'ascendflow'
import { openHfModel, openIndexedDataset, openMegatronCheckpoint } from 'ascendflow/formats'
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeFixture, rows } from './toolchain-fixture.ts'

function closing<T extends { close(): unknown }>(opened: T): T {
  onTestFinished(() => void opened.close())
  return opened
}

describe('the four steps with a toolchain', { timeout: 120_000 }, () => {
  it.each([
    ['modellink-1.1', 'legacy'],
    ['mindspeed-llm', 'mcore'],
  ] as const)('are jobs of %s (%s), whose files are those that the native steps make', async (generation, layout) => {
    const made = await makeFixture(generation, { layout, training: { trainIters: 2 } })
    const { steps, store, npus, base, double } = made
    const out = await run(steps, { store, on: npus })
    expect([out.data.samples, out.data.instruction, out.data.report]).toEqual([3, true, undefined])
    expect([out.trained.iteration, out.trained.tp, out.trained.layout]).toEqual([2, 2, layout])
    expect(out.trained.loss).toBeGreaterThan(0)
    expect(out.trained.tokensPerSecond).toBeGreaterThan(0)

    const instructions = { handler: 'GeneralInstructionHandler', appendEod: true, seqLength: 256 } as const
    const native = await run(
      {
        data: preprocess({ corpus: corpus(rows), tokenizer: base, ...instructions }),
      },
      { store },
    )
    for (const key of ['input_ids', 'labels', 'attention_mask'])
      for (const end of ['bin', 'idx'])
        expect(await readFile(`${out.data.path}_packed_${key}_document.${end}`)).toEqual(
          await readFile(`${native.data.path}_packed_${key}_document.${end}`),
        )
    expect(out.data.tokens).toBe(closing(openIndexedDataset(`${out.data.path}_packed_labels_document`)).tokens)

    const model = closing(await openHfModel(out.hf.path))
    const shards = closing(await openMegatronCheckpoint(out.trained.path, { architecture: model.architecture }))
    for (const name of model.tensors.keys())
      expect(Buffer.from(await model.readRows(name, 0, 1))).toEqual(Buffer.from(await shards.readRows(name, 0, 1)))
    expect(JSON.parse(await readFile(join(out.hf.path, 'tokenizer_config.json'), 'utf8')).eos_token).toBe(
      JSON.parse(await readFile(join(base.path, 'tokenizer_config.json'), 'utf8')).eos_token,
    )
    expect((await double.runs()).map(({ program }) => program).sort()).toEqual([
      ...['convert', 'convert', 'preprocess', 'train'],
    ])
  })

  it('count it in the key, and nothing where it is absent', async () => {
    const { base, toolchain, store, dir } = await makeFixture('modellink-1.1')
    const keyOf = async (options: object) =>
      (await plan(hfToMegatron({ model: base, ...options }), { store })).steps[0]!.key
    const native = await keyOf({})
    expect(await keyOf({ toolchain: undefined, extraArgs: undefined })).toBe(native)
    const other = { generation: 'modellink-1.0', dir } as const
    expect(new Set([native, await keyOf({ toolchain }), await keyOf({ toolchain: other })]).size).toBe(3)
  })

  it('know data again beside which a training has written its order of rows', async () => {
    const { steps, base, store, npus, toolchain } = await makeFixture('modellink-1.1', { native: true })
    const { report: _, ...data } = await run(steps.data, { store })
    const numbers = { seqLength: 256, globalBatchSize: 2, lr: 1e-3, trainIters: 2 }
    const trained = train({ data, init: steps.init, tokenizer: base, ...numbers, toolchain })
    const before = await plan(trained, { store, on: npus })
    await run(trained, { store, on: npus })
    expect(await readdir(dirname(data.path))).toContainEqual(expect.stringMatching(/_indexmap_4ns_1234s_.*\.npy$/))
    const after = await plan(trained, { store, on: npus })
    expect(after.steps.map(({ key }) => key)).toEqual(before.steps.map(({ key }) => key))
  })

  it('show their exact commands in the plan', async () => {
    const { steps, store, npus, toolchain, base } = await makeFixture('modellink-1.1')
    const planned = await plan(steps, { store, on: npus })
    const launchOf = (name: string) => planned.steps.find(step => step.name === name)?.launch
    expect(launchOf('hfToMegatron')).toContain(
      ` python tools/checkpoint/convert_ckpt.py --model-type GPT --loader llama2_hf --saver megatron --load-dir ${base.path}`,
    )
    expect(launchOf('hfToMegatron')).toMatch(new RegExp(`^cd ${toolchain.dir} && bash -c `))
    expect(launchOf('train')).toBeUndefined()
    await run({ data: steps.data, init: steps.init }, { store, on: npus })
    const ready = (await plan(steps, { store, on: npus })).steps.find(({ name }) => name === 'train')
    expect(ready?.launch).toMatch(
      /&& CUDA_DEVICE_MAX_CONNECTIONS=1 .* torchrun --nproc_per_node 2 --nnodes "\$NNODES" /,
    )
    expect(ready?.launch).toContain(' --finetune --no-load-optim --no-load-rng ')
    expect(ready?.facts.at(-1)).toBe('ModelLink 1.1')
  })
})

describe('a plan with a toolchain', { timeout: 120_000 }, () => {
  it('warns of NPUs that nothing would use, and of a place that does not say whether it has some', async () => {
    const { steps, store, npus, base, toolchain } = await makeFixture('modellink-1.1')
    const warnings = async (target: Parameters<typeof plan>[0], on?: typeof npus) =>
      (await plan(target, { store, ...(on && { on }) })).steps.flatMap(step => step.warnings)
    const { data, init } = steps
    const numbers = { data, init, seqLength: 256, globalBatchSize: 8, lr: 1e-3 }
    expect(await warnings(train(numbers), npus)).toEqual([
      'local has 8 NPUs, which the embedded trainer leaves idle: name a toolchain to train on them.',
    ])
    const onNpus = train({ ...numbers, tokenizer: base, toolchain })
    expect(await warnings(onNpus)).toEqual([
      'local does not say how many NPUs it has; the job is started as if there were 2.',
    ])
    expect(await warnings(onNpus, npus)).toEqual([])
  })

  it.each([
    [
      'extraArgs without a toolchain',
      { extraArgs: ['--lr', '1'], toolchain: undefined },
      /extraArgs are arguments of the/,
    ],
    [
      'arguments that contradict it',
      { extraArgs: ['--lr', '1'] },
      /--lr 1 contradicts the plan, which says --lr 0.001/,
    ],
    ['arguments that the generation does not know', { extraArgs: ['--prompt-type', 'qwen'] }, /knows no --prompt-type/],
    ['no tokenizer', { tokenizer: undefined }, /tokenizer's files at hand. Name their folder/],
    ['float32', { dtype: 'fp32' }, /bf16 or fp16, not fp32/],
    ['choices of the embedded trainer', { numerics: 'fast' }, /the embedded trainer's/],
  ] as const)('refuses %s before anything runs', async (_, training, message) => {
    const { base, toolchain, store, npus, steps } = await makeFixture('modellink-1.1')
    const numbers = { seqLength: 256, microBatchSize: 4, globalBatchSize: 8, lr: 1e-3, trainIters: 6 }
    const given = { ...numbers, tokenizer: base, toolchain, data: steps.data, init: steps.init, ...training }
    await expect(plan(train(given as Parameters<typeof train>[0]), { store, on: npus })).rejects.toThrow(message)
  })

  it('refuses conversions that the generation would do wrong', async () => {
    const { base, toolchain, store, npus } = await makeFixture('modellink-1.1')
    const mcore = hfToMegatron({ model: base, layout: 'mcore', toolchain })
    await expect(plan(mcore, { store, on: npus })).rejects.toThrow(/ModelLink 1.1 has no mcore checkpoints/)
    const cut = hfToMegatron({ model: base, parallel: { tp: 8 }, toolchain })
    await expect(plan(cut, { store, on: npus })).rejects.toThrow(/tp 8 does not divide the model's 4 query groups/)
    const checkpoint = hfToMegatron({ model: base })
    const typed = megatronToHf({ checkpoint, like: base, dtype: 'fp16', toolchain })
    await expect(plan(typed, { store, on: npus })).rejects.toThrow(/bf16, and no fp16/)
    const both = preprocess({ corpus: corpus(base.path), tokenizer: base, pack: true, toolchain })
    await expect(plan(both, { store, on: npus })).rejects.toThrow(/no pack/)
  })
})
