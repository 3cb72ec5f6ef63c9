import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { type WriteMegatronOptions, writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { type NewTensor, type PickleValue, pickleDict } from '../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import { createTorchFile, planTorchFile } from '../../src/formats/torch-writer.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { llama, memorySource, qwen2, temporaryFolder, tinyWeights } from './fixtures/tiny-model.ts'

const options: WriteMegatronOptions = {
  source: memorySource(tinyWeights(llama)),
  architecture: llama,
  parallel: { tp: 2, pp: 2 },
  layout: 'legacy',
  iteration: 1,
}

async function checkpoint(more: Partial<WriteMegatronOptions> = {}): Promise<string> {
  const dir = join(await temporaryFolder(), 'checkpoint')
  await writeMegatronCheckpoint(dir, { ...options, ...more })
  return dir
}

const folder = 'iter_0000001'
const edits: readonly [string, (dir: string) => Promise<unknown>, object][] = [
  [
    'without a tracker file',
    dir => rm(join(dir, 'latest_checkpointed_iteration.txt')),
    { expected: 'a checkpoint folder with a tracker file', found: 'no such file' },
  ],
  [
    'whose tracker file holds something else',
    dir => writeFile(join(dir, 'latest_checkpointed_iteration.txt'), '../1'),
    { offset: 0, expected: "an iteration number or 'release'", found: '"../1"' },
  ],
  [
    'whose tracker file names an iteration that is not there',
    dir => writeFile(join(dir, 'latest_checkpointed_iteration.txt'), '9'),
    { expected: 'a folder with mp_rank_* folders', found: 'no such folder' },
  ],
  [
    'with a missing rank',
    dir => rm(join(dir, folder, 'mp_rank_01_000'), { recursive: true }),
    { expected: 'a file for each of tp 2 x pp 2 ranks', found: 'none' },
  ],
  [
    'with a missing file',
    dir => rm(join(dir, folder, 'mp_rank_01_001', 'model_optim_rng.pt')),
    { expected: 'a file', found: 'nothing' },
  ],
  [
    'with a rank folder that has another name',
    dir => mkdir(join(dir, folder, 'mp_rank_xx')),
    { expected: 'a name like mp_rank_00_000', found: 'mp_rank_xx' },
  ],
  [
    'with the ranks of another run beside its own',
    dir => rename(join(dir, folder, 'mp_rank_01_001'), join(dir, folder, 'mp_rank_01')),
    { expected: 'a file for each of tp 2 x pp 2 ranks' },
  ],
  [
    'with half of its ranks, which args contradict',
    async dir => {
      await rm(join(dir, folder, 'mp_rank_01_000'), { recursive: true })
      await rm(join(dir, folder, 'mp_rank_01_001'), { recursive: true })
    },
    { expected: 'args.tensor_model_parallel_size to be 1, as the mp_rank_* folders say', found: '2' },
  ],
  [
    'in which one stage took the place of the other',
    dir => cp(join(dir, folder, 'mp_rank_00_000'), join(dir, folder, 'mp_rank_00_001'), { recursive: true }),
    { expected: "tensor 'encoder.final_norm.weight' of shape [16]", found: 'none' },
  ],
]

test.each(edits)('a checkpoint %s is refused', async (_, edit, expected) => {
  const dir = await checkpoint()
  await edit(dir)
  await expect(openMegatronCheckpoint(dir)).rejects.toMatchObject({ code: 'bad-format', ...expected })
})

test("a tracker file that says 'release' leads to the folder of that name", async () => {
  const dir = await checkpoint()
  await rename(join(dir, folder), join(dir, 'release'))
  await writeFile(join(dir, 'latest_checkpointed_iteration.txt'), 'release\n')
  const source = await openMegatronCheckpoint(dir)
  expect(source.iteration).toBe('release')
  await source.close()
})

test('an older iteration is opened by its number', async () => {
  const dir = await checkpoint()
  await writeMegatronCheckpoint(dir, {
    ...options,
    iteration: 200,
    parallel: { tp: 1, pp: 1 },
    consumedTrainSamples: 640,
  })
  const newest = await openMegatronCheckpoint(dir)
  expect(newest).toMatchObject({ iteration: 200, tp: 1, consumedTrainSamples: 640 })
  const older = await openMegatronCheckpoint(dir, { iteration: 1 })
  expect(older).toMatchObject({ iteration: 1, tp: 2 })
  await newest.close()
  await older.close()
})

test.each<[string, Partial<Architecture>, string]>([
  ['layers', { numLayers: 5 }, 'numLayers'],
  ['biases', { addQkvBias: true }, 'addQkvBias'],
  ['tied embeddings', { tiedEmbeddings: true }, 'tiedEmbeddings'],
])('a given architecture with other %s than the checkpoint is refused', async (_, other, key) => {
  const opened = openMegatronCheckpoint(await checkpoint(), { architecture: { ...llama, ...other } })
  await expect(opened).rejects.toThrow(new RegExp(`expected ${key} .*, as the given architecture has, found`))
})

function drop(weights: Map<string, PickleValue>, part: string): void {
  for (const key of [...weights.keys()]) if (key.includes(part)) weights.delete(key)
}

/** A checkpoint of one file whose model is what `edit` makes of the right one. */
async function edited(edit: (weights: Map<string, PickleValue>) => void, model: Architecture = llama): Promise<string> {
  const dir = await checkpoint({
    architecture: model,
    source: memorySource(tinyWeights(model)),
    parallel: { tp: 1, pp: 1 },
    layout: 'mcore',
  })
  const path = join(dir, folder, 'mp_rank_00', 'model_optim_rng.pt')
  const zeros = (...shape: number[]): NewTensor => ({ type: 'new-tensor', dtype: 'BF16', shape })
  const names: [string, NewTensor][] = Array.from({ length: 4 }, (_, i) =>
    Object.entries({
      'input_layernorm.weight': zeros(16),
      'self_attention.linear_qkv.weight': zeros(32, 16),
      'self_attention.linear_proj.weight': zeros(16, 16),
      'pre_mlp_layernorm.weight': zeros(16),
      'mlp.linear_fc1.weight': zeros(48, 16),
      'mlp.linear_fc2.weight': zeros(16, 24),
    }).map(([name, tensor]): [string, NewTensor] => [`decoder.layers.${i}.${name}`, tensor]),
  ).flat()
  const weights = new Map<string, PickleValue>([
    ['embedding.word_embeddings.weight', zeros(21, 16)],
    ...names,
    ['decoder.final_layernorm.weight', zeros(16)],
    ['output_layer.weight', zeros(21, 16)],
  ])
  edit(weights)
  const file = await openTorchFile(path)
  const args = (file.value as ReadonlyMap<string, PickleValue>).get('args')!
  await file.close()
  await rm(path)
  const value = pickleDict([
    ['args', args],
    ['model', { type: 'ordered-dict', entries: weights }],
  ])
  const writer = await createTorchFile(path, planTorchFile(value, { root: 'model_optim_rng' }))
  for (const tensor of weights.values()) {
    if (tensor !== null && typeof tensor === 'object' && 'type' in tensor && tensor.type === 'new-tensor') {
      await writer.write(tensor, new Uint8Array(tensor.shape.reduce((a, b) => a * b, 2)))
    }
  }
  await writer.finish()
  return dir
}

test('a file without any _extra_state is read, as the real tools read it', async () => {
  const source = await openMegatronCheckpoint(await edited(() => {}))
  expect(source.tensors.size).toBe(39)
  await source.close()
})

test.each<[string, (weights: Map<string, PickleValue>) => void, object]>([
  [
    'a weight that no rule knows',
    it => it.set('decoder.layers.0.mlp.router.weight', { type: 'new-tensor', dtype: 'BF16', shape: [2] }),
    { expected: 'only weights of the model', found: "'decoder.layers.0.mlp.router.weight', which no rule knows" },
  ],
  [
    'a missing weight',
    it => it.delete('decoder.layers.2.mlp.linear_fc2.weight'),
    { expected: "tensor 'decoder.layers.2.mlp.linear_fc2.weight' of shape [16,24]", found: 'none' },
  ],
  [
    'a weight of another shape',
    it => it.set('decoder.final_layernorm.weight', { type: 'new-tensor', dtype: 'BF16', shape: [17] }),
    { expected: "tensor 'decoder.final_layernorm.weight' of shape [16]", found: '[17]' },
  ],
  [
    'a weight that is no tensor',
    it => it.set('decoder.final_layernorm.weight', 5),
    { expected: "tensor 'decoder.final_layernorm.weight' of shape [16]", found: 'something else' },
  ],
  ['a missing layer', it => drop(it, 'layers.1.'), { expected: 'layers 0 to 2', found: 'no layer 1' }],
  ['fewer layers than args say', it => drop(it, 'layers.3.'), { expected: '4 layers in all stages', found: '3' }],
])('a checkpoint with %s is refused by name', async (_, edit, expected) => {
  await expect(openMegatronCheckpoint(await edited(edit))).rejects.toMatchObject({ code: 'bad-format', ...expected })
})

test.each<[string, Partial<WriteMegatronOptions>, string, RegExp]>([
  [
    'more ranks than heads',
    { parallel: { tp: 16, pp: 1 } },
    'invalid-layout',
    /tp 16 must share out the 8 heads in 4 key\/value groups.*tp 1, 2, 4, 8 would/,
  ],
  ['stages that do not divide', { parallel: { tp: 1, pp: 3 } }, 'invalid-layout', /pp 1, 2, 4 would/],
  [
    'a padded vocabulary that is too small',
    { paddedVocabSize: 20 },
    'invalid-layout',
    /paddedVocabSize 20 .*vocabulary of 21; 22 is the smallest/,
  ],
  ['a padded vocabulary that tp does not divide', { paddedVocabSize: 23 }, 'invalid-layout', /multiple of tp 2/],
  ['an iteration that is not whole', { iteration: 1.5 }, 'invalid-input', /iteration is 1.5/],
  [
    'a source of another model',
    { architecture: qwen2 },
    'invalid-input',
    /no tensor 'model.layers.0.self_attn.q_proj.bias'/,
  ],
  [
    'a source with more than the model has',
    { source: memorySource(tinyWeights(qwen2)) },
    'invalid-input',
    /'model.layers.0.self_attn.q_proj.bias' has no place/,
  ],
  [
    'a source of other shapes',
    { architecture: { ...llama, hiddenSize: 32 } },
    'invalid-input',
    /has shape \[21,16\]; the architecture asks for \[21,32\]/,
  ],
])('writing %s is refused before anything is written', async (_, more, code, message) => {
  const writing = checkpoint(more)
  await expect(writing).rejects.toMatchObject({ code })
  await expect(writing).rejects.toThrow(message)
})

test('tensors of different types that become one weight are refused unless a type is given', async () => {
  const weights = new Map(tinyWeights(llama))
  weights.set('model.layers.0.mlp.up_proj.weight', tinyWeights(llama, 'F32').get('model.layers.0.mlp.up_proj.weight')!)
  await expect(checkpoint({ source: memorySource(weights) })).rejects.toThrow(
    /gate_proj.weight' is BF16 and .*up_proj.weight' is F32/,
  )
  await checkpoint({ source: memorySource(weights), dtype: 'BF16' })
})
