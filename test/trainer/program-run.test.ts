import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseIterationLine, parseValidationLine } from '../../src/ascendspeed/iteration-line.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { type Fixture, fixture, runTrainer, tiny, weightBytes } from './program-fixture.ts'

interface Reference {
  readonly loss: number[]
  readonly gradNorm: number[]
  readonly rate: number[]
}

const reference: Record<string, Reference> = JSON.parse(
  readFileSync(new URL('golden/program-runs.json', import.meta.url), 'utf8'),
)

const instruction = (f: Fixture) => `--data-path ${f.rows} --is-instruction-dataset`
const adapters = '--lora-r 4 --lora-alpha 8 --lora-target-modules query_key_value dense dense_h_to_4h dense_4h_to_h'

describe('losses, gradient norms and rates are those of PyTorch in float64', () => {
  test.each<[string, (f: Fixture) => string]>([
    ['pretraining', () => ''],
    ['instruction', instruction],
    ['lora', f => `${instruction(f)} ${adapters}`],
  ])('%s', async (name, flags) => {
    const f = await fixture()
    const { lines } = await runTrainer(f, flags(f))
    check(lines, reference[name] as Reference, 1)
  })

  test('without --finetune training goes on at the checkpoint’s iteration, with the samples after it', async () => {
    const f = await fixture()
    const { options } = await runTrainer(f, '')
    const { lines } = await runTrainer(f, '--no-load-optim', { drop: '--finetune' })
    expect(options.finetune).toBe(true)
    check(lines, reference.continued as Reference, 2)
    expect(lines.map(parseIterationLine).find(Boolean)).toMatchObject({ iteration: 2, consumedSamples: 8 })
  })
})

test('the log is Megatron’s', async () => {
  const f = await fixture()
  const { lines } = await runTrainer(f, `--save ${f.folder}/out --log-interval 5 --log-throughput`)
  const stamp = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`
  const patterns = [
    'using world size: 4, data-parallel size: 1, context-parallel size: 1 tensor-model-parallel size: 2, pipeline-model-parallel size: 2 ',
    'embedded CPU trainer: float32 on this machine, computing TP 1 PP 1; shards are written as TP 2 PP 2; speed says nothing about NPUs',
    ` loading checkpoint from ${f.load}`,
    String.raw`  successfully loaded checkpoint from ${f.load} \[ t 0, p 0 \] at iteration 0`,
    'training ...',
    String.raw`\[before the start of training step\] datetime: ${stamp} `,
    String.raw` \[${stamp}\] iteration        5/      10 \| consumed samples:           20 \| elapsed time per iteration \(ms\): [\d.]+ \| throughput per GPU \(TFLOP/s/GPU\): 0\.0 \| learning rate: 2\.166623E-03 \| global batch size:     4 \| lm loss: 4\.08884[45]E\+00 \| loss scale: 1\.0 \| grad norm: 0\.913 \| number of skipped iterations:   0 \| number of nan iterations:   0 \|`,
    `saving checkpoint at iteration       5 to ${f.folder}/out in torch format`,
    `  successfully saved checkpoint at iteration       5 to ${f.folder}/out`,
    ' .* iteration       10/      10 .*',
    'saving .*',
    '  successfully .*',
    String.raw`\[after training is done\] datetime: ${stamp} `,
  ]
  expect(lines.map((line, i) => (new RegExp(`^${patterns[i]}$`).test(line) ? patterns[i] : line))).toEqual(patterns)
})

describe('checkpoints', () => {
  test('each save has the ranks asked for, in the type asked for, and the tracker names the last', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    await runTrainer(f, `--save ${out} --save-interval 4 --bf16`)
    expect((await readdir(out)).sort()).toEqual([
      'iter_0000004',
      'iter_0000008',
      'iter_0000010',
      'latest_checkpointed_iteration.txt',
      'train-report.json',
    ])
    expect(await readFile(join(out, 'latest_checkpointed_iteration.txt'), 'latin1')).toBe('10')
    expect((await readdir(join(out, 'iter_0000010'))).sort()).toEqual([
      'ascendflow-manifest.json',
      'embedded_trainer_state.safetensors',
      'mp_rank_00_000',
      'mp_rank_00_001',
      'mp_rank_01_000',
      'mp_rank_01_001',
    ])
    const saved = await openMegatronCheckpoint(out)
    expect(saved).toMatchObject({
      iteration: 10,
      tp: 2,
      pp: 2,
      layout: 'legacy',
      paddedVocabSize: 64,
      consumedTrainSamples: 40,
    })
    expect(saved.architecture).toMatchObject({ ...tiny })
    expect([...saved.tensors.values()].every(tensor => tensor.dtype === 'BF16')).toBe(true)
    await saved.close()
  })

  test('a LoRA run saves its adapters alone, beside the unchanged embedding and output layer', async () => {
    const f = await fixture()
    const out = join(f.folder, 'out')
    await runTrainer(f, `${instruction(f)} ${adapters} --save ${out}`)
    const [saved, base] = [await weightBytes(out), await weightBytes(f.load)]
    const names = Object.keys(saved)
    expect(names.filter(name => /lora_[AB]/.test(name))).toHaveLength(2 * 4 * 2)
    expect(names.filter(name => !/lora_[AB]/.test(name)).sort()).toEqual([
      'lm_head.weight',
      'model.embed_tokens.weight',
    ])
    expect(saved['lm_head.weight']).toBe(base['lm_head.weight'])
    const merged = await openMegatronCheckpoint(out, { base: f.load })
    expect(merged.lora).toMatchObject({ r: 4, alpha: 8 })
    await merged.close()
  })

  test('--lora-load goes on from adapters trained before', async () => {
    const f = await fixture()
    const [first, second] = [join(f.folder, 'first'), join(f.folder, 'second')]
    const flags = `${instruction(f)} ${adapters}`
    await runTrainer(f, `${flags} --save ${first}`)
    await runTrainer(f, `${flags} --save ${second} --lora-load ${first} --lr 0 --min-lr 0`)
    expect(await weightBytes(second)).toEqual(await weightBytes(first))
    await expect(runTrainer(f, `${flags} --lora-r 2 --lora-load ${first}`)).rejects.toThrow(/has r 4, .* ask for r 2/)
  })
})

describe('evaluation', () => {
  test('reads the same samples before, during and after training, and changes nothing of it', async () => {
    const f = await fixture()
    const [plain, evaluated] = [join(f.folder, 'plain'), join(f.folder, 'evaluated')]
    const { lines: plainLines } = await runTrainer(f, `--save ${plain}`)
    const { lines } = await runTrainer(
      f,
      `--save ${evaluated} --valid-data-path ${f.data} --eval-iters 2 --eval-interval 4`,
    )
    expect(await weightBytes(evaluated)).toEqual(await weightBytes(plain))
    const losses = (all: string[]) => all.map(parseIterationLine).flatMap(line => (line ? [line.loss] : []))
    expect(losses(lines)).toEqual(losses(plainLines))

    const seen = lines.flatMap(line => parseValidationLine(line) ?? [])
    expect(seen.map(({ iteration, set }) => [iteration, set])).toEqual([
      [0, undefined],
      [4, undefined],
      [8, undefined],
      [10, 'validation'],
    ])
    // Two batches of the windows that training starts with, at the weights that it starts from.
    const [first] = reference.pretraining?.loss ?? []
    expect(Math.abs((seen[0]?.loss ?? 0) - (first ?? 0))).toBeLessThan(0.1)
    expect(seen[3]?.loss).toBeLessThan(seen[0]?.loss ?? 0)

    const report = JSON.parse(await readFile(join(evaluated, 'train-report.json'), 'utf8'))
    expect(report).toEqual({
      iterations: 10,
      consumedSamples: 40,
      skippedIterations: 0,
      finalLoss: expect.closeTo(reference.pretraining?.loss[9] as number, 5),
      validationLoss: { before: expect.closeTo(seen[0]?.loss ?? 0, 5), after: expect.closeTo(seen[3]?.loss ?? 0, 5) },
      tokensPerSecond: expect.any(Number),
    })
    expect(JSON.parse(await readFile(join(plain, 'train-report.json'), 'utf8'))).not.toHaveProperty('validationLoss')
  })

  test('the validation and test shares of --split are evaluated as Megatron does', async () => {
    const f = await fixture()
    const { lines } = await runTrainer(f, '--split 80,10,10 --eval-iters 1')
    const seen = lines.flatMap(line => parseValidationLine(line) ?? [])
    expect(seen.map(({ iteration, set }) => [iteration, set])).toEqual([
      [0, undefined],
      [10, 'validation'],
      [10, 'test'],
    ])
  })
})

function check(lines: readonly string[], expected: Reference, first: number): void {
  const read = lines.flatMap(line => parseIterationLine(line) ?? [])
  expect(read.map(line => line.iteration)).toEqual(expected.loss.map((_, i) => first + i))
  read.forEach((line, i) => {
    expect(line.loss).toBeCloseTo(expected.loss[i] as number, 5)
    expect(Math.abs((line.gradNorm as number) - (expected.gradNorm[i] as number))).toBeLessThan(0.0011)
  })
  expect(read.map(line => line.learningRate)).toEqual(expected.rate)
}
