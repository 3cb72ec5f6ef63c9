import { expect, test } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { fixture, runTrainer, writeDataSet } from './program-fixture.ts'

test.each([
  ['--num-layers 4', 'num-layers value from checkpoint (2) is not equal to the input argument value (4).'],
  [
    '--hidden-size 32 --kv-channels 8',
    'hidden-size value from checkpoint (16) is not equal to the input argument value (32). kv-channels value from checkpoint (4) is not equal to the input argument value (8).',
  ],
  [
    '--group-query-attention',
    'num-query-groups value from checkpoint (2) is not equal to the input argument value (1).',
  ],
  [
    '--norm-epsilon 1e-6',
    'norm-epsilon value from checkpoint (0.00001) is not equal to the input argument value (0.000001).',
  ],
  [
    '--rotary-base 1000000',
    'rotary-base value from checkpoint (10000) is not equal to the input argument value (1000000).',
  ],
  ['--add-qkv-bias', 'add-qkv-bias value from checkpoint (false) is not equal to the input argument value (true).'],
  [
    '--padded-vocab-size 61',
    'padded-vocab-size value from checkpoint (64) is not equal to the input argument value (61).',
  ],
  [
    '--make-vocab-size-divisible-by 128',
    'padded vocabulary (64) is not a multiple of make-vocab-size-divisible-by × tp (256).',
  ],
  [
    '--pipeline-model-parallel-size 1',
    'pipeline-model-parallel-size value from checkpoint (2) is not equal to the input argument value (1).',
  ],
  ['--seq-length 65', '--seq-length 65 is more than the 64 positions of the checkpoint'],
  [
    '--use-mcore-models',
    'use-mcore-models value from checkpoint (false) is not equal to the input argument value (true).',
  ],
])('%s against a checkpoint that says otherwise', async (flags, message) => {
  await expect(runTrainer(await fixture(), flags)).rejects.toMatchObject({
    code: 'invalid-input',
    message: expect.stringContaining(message),
  })
})

test('numbers that agree with the checkpoint are taken', async () => {
  const f = await fixture()
  const flags =
    '--num-layers 2 --hidden-size 16 --ffn-hidden-size 24 --num-attention-heads 4 --group-query-attention --num-query-groups 2 --kv-channels 4 --norm-epsilon 1e-5 --rotary-base 10000 --untie-embeddings-and-output-weights --padded-vocab-size 64 --make-vocab-size-divisible-by 1 --max-position-embeddings 64'
  expect((await runTrainer(f, `${flags} --train-iters 3`)).outcome).toBe('finished')
})

test('Megatron’s optimizer state is not read, and its absence not passed over', async () => {
  const f = await fixture()
  await expect(runTrainer(f, '', { drop: '--finetune' })).rejects.toThrow(
    /Unable to load optimizer from checkpoint .*init: .* Specify --no-load-optim or --finetune/,
  )
})

test('a micro-batch without a label stops the run, as it does Megatron’s', async () => {
  const f = await fixture()
  const rows = [Int32Array.of(1, 2, 3, 4)]
  const masked = `${f.folder}/masked`
  await writeDataSet(`${masked}_packed_input_ids_document`, rows)
  await writeDataSet(`${masked}_packed_attention_mask_document`, [Int32Array.of(1, 1, 1, 1)])
  await writeDataSet(`${masked}_packed_labels_document`, [Int32Array.of(-100, -100, -100, -100)])
  await expect(runTrainer(f, `--data-path ${masked} --is-instruction-dataset`)).rejects.toThrow(
    /found NaN in local forward loss calculation\. Device: cpu, node: .*\nNo label is left to learn from in iteration 1, samples 0 to 1 \(.*masked_packed_input_ids_document, row 0;/,
  )
})

test('a loss that is no number stops the run with Megatron’s words, the iteration and the rows', async () => {
  const f = await fixture(weights => weights.at(-1)?.values.fill(Number.NaN))
  await expect(runTrainer(f, '')).rejects.toThrow(
    /found NaN in local forward loss calculation.*\nThe loss is NaN in iteration 1, samples 0 to 1 \(.*web_text_document, sequence [\d to]+; .*\)\. Lower --lr/,
  )
})

test('gradients that are not finite are skipped, and end the run after five in a row', async () => {
  const f = await fixture()
  const seen: string[] = []
  const flags = '--lr 1e30 --min-lr 0 --lr-warmup-iters 0 --clip-grad 0'
  await expect(runTrainer(f, flags, { onLine: line => seen.push(line) })).rejects.toThrow(
    'found NaN in local grad norm: the gradients of iterations 2 to 6 are not finite (norm NaN). The run has diverged. Lower --lr',
  )
  const read = seen.flatMap(line => parseIterationLine(line) ?? [])
  expect(read.map(line => line.skippedIterations)).toEqual([0, 1, 1, 1, 1])
  expect(read.map(line => [line.loss === undefined, line.gradNorm === undefined])).toEqual([
    [false, false],
    ...Array(4).fill([true, true]),
  ])
  // Megatron’s schedule stands still while iterations are skipped.
  expect(new Set(read.map(line => line.learningRate)).size).toBe(1)
})

test('a model that does not fit is refused with what it would need', async () => {
  const f = await fixture()
  const flags =
    '--seq-length 4000 --max-position-embeddings 4000 --micro-batch-size 4000 --global-batch-size 4000 --train-iters 3'
  await expect(runTrainer(f, flags)).rejects.toMatchObject({
    code: 'invalid-layout',
    message: expect.stringMatching(/Training needs [\d.]+ GiB .* but /),
  })
})

test('weights that are not there are refused by name', async () => {
  const f = await fixture()
  await expect(runTrainer(f, `--load ${f.folder}/nothing`)).rejects.toMatchObject({
    code: 'bad-format',
    file: `${f.folder}/nothing/latest_checkpointed_iteration.txt`,
  })
})
