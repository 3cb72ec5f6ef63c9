import { createHash } from 'node:crypto'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { filesBelow } from '../../src/checkpoint/conversion-target.ts'
import { inspect } from '../../src/checkpoint/inspect.ts'
import { reshardCheckpoint } from '../../src/checkpoint/reshard.ts'
import type { MegatronLayout } from '../../src/checkpoint/stage-weights.ts'
import { torchNames } from '../../src/formats/pickle.ts'
import { dictEntries, type PickleTensor, type PickleValue } from '../../src/formats/pickle-value.ts'
import { openTorchFile, type TorchFile } from '../../src/formats/torch-file.ts'
import { itemsOf } from '../../src/formats/torch-globals.ts'
import { temporaryFolder } from './fixtures/tiny-model.ts'

const golden = new URL('golden/optimizer/', import.meta.url).pathname
const source = join(golden, 'legacy-tp1-pp2')
const architecture = {
  ...{ family: 'qwen2', numLayers: 2, hiddenSize: 8, ffnHiddenSize: 8, numAttentionHeads: 4, numQueryGroups: 2 },
  ...{ kvChannels: 2, vocabSize: 11, maxPositionEmbeddings: 64, normEpsilon: 1e-6, rotaryBase: 10000 },
  ...{ tiedEmbeddings: false, addQkvBias: true },
}

type Contents = Record<string, Record<string, unknown>>

/** What is in every file, in the words of `contents.json`. */
async function contentsOf(dir: string): Promise<Contents> {
  const found: Contents = {}
  for (const name of (await filesBelow(dir)).filter(it => it.endsWith('.pt'))) {
    const file = await openTorchFile(join(dir, name))
    found[name] = {}
    await walk(file, file.value, '', found[name])
    await file.close()
  }
  return found
}

async function walk(file: TorchFile, value: PickleValue, at: string, into: Record<string, unknown>): Promise<void> {
  const entries = dictEntries(value) ?? (Array.isArray(value) ? value : itemsOf(value))?.entries()
  if (entries !== undefined) {
    for (const [key, below] of entries) if (at !== '' || key !== 'args') await walk(file, below, `${at}/${key}`, into)
  } else if (typeof value === 'object' && value !== null && 'type' in value && value.type === 'tensor') {
    into[at] = await described(file, value)
  } else if (typeof value === 'object' && value !== null && 'type' in value && value.type === 'float') {
    into[at] = value.value
  } else if (!at.endsWith('_extra_state')) into[at] = value
}

async function described(file: TorchFile, tensor: PickleTensor): Promise<unknown> {
  const bytes = await file.readRows(tensor, { start: 0, end: tensor.shape[0] ?? 1 })
  const digest = createHash('sha256').update(bytes).digest('hex')
  return [`torch.${torchNames[tensor.dtype].dtype}`, tensor.shape, digest]
}

const cases: [string, MegatronLayout, number, number][] = [
  ['mcore-tp2-pp1', 'mcore', 2, 1],
  ['legacy-tp2-pp2', 'legacy', 2, 2],
]

it.each(cases)('weights and optimizer come to %s as torch has them there', async (name, layout, tp, pp) => {
  const expected = JSON.parse(await readFile(join(golden, 'contents.json'), 'utf8')) as Record<string, Contents>
  const to = join(await temporaryFolder(), 'out')
  expect(await reshardCheckpoint(source, { to, parallel: { tp, pp }, layout, architecture })).toBe('carried')
  expect(await contentsOf(to)).toEqual(expected[name])
  const args = (await openArgs(to, pp)) as Map<string, unknown>
  expect(args.get('seed')).toBe(1234)
  expect(args.get('model_type')).toEqual({ type: 'object', of: 'megatron.core.enums ModelType', args: [1] })
  expect([args.get('consumed_train_samples'), args.get('consumed_valid_samples')]).toEqual([56, 3])
  expect(args.get('use_mcore_models')).toBe(layout === 'mcore')
})

async function openArgs(dir: string, pp: number): Promise<unknown> {
  const rank = pp === 1 ? 'mp_rank_00' : 'mp_rank_00_000'
  const file = await openTorchFile(join(dir, 'iter_0000007', rank, 'model_optim_rng.pt'))
  await file.close()
  return (dictEntries(file.value)!.get('args') as { fields: unknown }).fields
}

it('through other layouts and back everything is as it was', async () => {
  const dir = await temporaryFolder()
  const steps = [
    { layout: 'mcore', parallel: { tp: 4, pp: 1 } },
    { layout: 'legacy', parallel: { tp: 2, pp: 2 } },
    { layout: 'mcore', parallel: { tp: 1, pp: 1 } },
    { layout: 'legacy', parallel: { tp: 1, pp: 2 } },
  ] as const
  let from = source
  for (const [i, step] of steps.entries()) {
    await reshardCheckpoint(from, { ...step, to: join(dir, `${i}`), architecture })
    from = join(dir, `${i}`)
  }
  const [before, after] = [await contentsOf(source), await contentsOf(from)]
  for (const file of Object.values(before)) delete file['/rng_state/0/torch_rng_state']
  expect(after).toEqual(before)
})

it('with drop the weights go alone', async () => {
  const to = join(await temporaryFolder(), 'out')
  const cut = { to, parallel: { tp: 2, pp: 1 }, architecture, dtype: 'F32' } as const
  await expect(reshardCheckpoint(source, cut)).rejects.toThrow(/goes with weights of the stored type/)
  expect(await reshardCheckpoint(source, { ...cut, optimizer: 'drop' })).toBe('dropped')
  for (const file of Object.values(await contentsOf(to)))
    expect(Object.keys(file).filter(key => key.startsWith('/opt'))).toEqual([])
  expect(JSON.stringify(await inspect(to))).not.toContain('exp_avg')
})

it('the state of a distributed optimizer is refused by name', async () => {
  const dir = await temporaryFolder()
  await cp(source, join(dir, 'in'), { recursive: true })
  await writeFile(join(dir, 'in/iter_0000007/mp_rank_00_001/distrib_optim.pt'), '')
  const cut = { to: join(dir, 'out'), parallel: { tp: 1, pp: 1 }, architecture }
  await expect(reshardCheckpoint(join(dir, 'in'), cut)).rejects.toMatchObject({
    code: 'unsupported',
    message: expect.stringMatching(/mp_rank_00_001.distrib_optim.pt: the state of a distributed optimizer/),
  })
  expect(await reshardCheckpoint(join(dir, 'in'), { ...cut, optimizer: 'drop' })).toBe('dropped')
})

it('float32 weights that do not round to the stored ones are refused: their order is another', async () => {
  const dir = await temporaryFolder()
  await cp(source, join(dir, 'in'), { recursive: true })
  const path = join(dir, 'in/iter_0000007/mp_rank_00_001/model_optim_rng.pt')
  const file = await openTorchFile(path)
  const optimizer = dictEntries(dictEntries(file.value)!.get('optimizer'))!
  const groups = optimizer.get('fp32_from_fp16_params') as readonly (readonly PickleTensor[])[]
  await file.close()
  // The second norm of the layer: the last stage begins with the group of norms and biases.
  const tensor = groups[0]![2]!
  const bytes = await readFile(path)
  bytes.writeFloatLE(bytes.readFloatLE(tensor.offset) + 1, tensor.offset)
  await writeFile(path, bytes)
  const cut = { to: join(dir, 'out'), parallel: { tp: 1, pp: 1 }, architecture }
  await expect(reshardCheckpoint(join(dir, 'in'), cut)).rejects.toThrow(
    /the optimizer's float32 weight of 'encoder.layers.0.post_attention_norm.weight' to round to the stored one/,
  )
})
