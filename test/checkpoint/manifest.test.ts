import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { manifestName, readManifest } from '../../src/checkpoint/manifest.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { type WriteMegatronOptions, writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { InputError } from '../../src/errors.ts'
import { llama, memorySource, temporaryFolder, tinyWeights, writeHfFolder } from './fixtures/tiny-model.ts'

const weights = tinyWeights(llama)
const options: WriteMegatronOptions = {
  source: memorySource(weights),
  architecture: llama,
  parallel: { tp: 2, pp: 2 },
  layout: 'legacy',
  iteration: 1,
}
const hex = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, '0')

test('a conversion leaves a manifest with its plan and, file by file, the shapes, types and CRC-32s of all tensors', async () => {
  const dir = await temporaryFolder()
  await writeMegatronCheckpoint(dir, options)
  const manifest = (await readManifest(join(dir, 'iter_0000001')))!
  expect(manifest.plan).toEqual({
    kind: 'megatron',
    iteration: 1,
    layout: 'legacy',
    tp: 2,
    pp: 2,
    paddedVocabSize: 22,
    dtype: ['BF16'],
    architecture: JSON.parse(JSON.stringify(llama)),
  })
  expect(manifest.files.map(({ file, tensors }) => [file, tensors.length])).toEqual([
    ['mp_rank_00_000/model_optim_rng.pt', 13],
    ['mp_rank_00_001/model_optim_rng.pt', 14],
    ['mp_rank_01_000/model_optim_rng.pt', 13],
    ['mp_rank_01_001/model_optim_rng.pt', 14],
  ])
  // Rank 1 of the embedding: rows 11 to 20 and row 20 once more as padding.
  const rows = weights.get('model.embed_tokens.weight')!.bytes
  expect(manifest.files[2]!.tensors[0]).toEqual({
    name: 'model.embedding.word_embeddings.weight',
    dtype: 'BF16',
    shape: [11, 16],
    crc32: hex(Buffer.concat([rows.subarray(11 * 32), rows.subarray(20 * 32)])),
  })
})

test('a Hugging Face folder gets the manifest of its shards, also when blocks end within tensors', async () => {
  const dir = await temporaryFolder()
  await writeHfFolder(join(dir, 'hf'), llama, weights)
  await writeHfModel(join(dir, 'out'), {
    ...{ source: options.source, architecture: llama, like: join(dir, 'hf'), maxShardBytes: 4000 },
  })
  const manifest = (await readManifest(join(dir, 'out')))!
  expect(manifest.plan).toMatchObject({ kind: 'hf', dtype: ['BF16'] })
  expect(manifest.files.length).toBeGreaterThan(2)
  const found = manifest.files.flatMap(({ tensors }) => tensors.map(({ name, crc32 }) => [name, crc32]))
  expect(found.sort()).toEqual([...weights].map(([name, { bytes }]) => [name, hex(bytes)]).sort())
})

test('the same conversion gives the same manifest, byte by byte', async () => {
  const [a, b] = [await temporaryFolder(), await temporaryFolder()]
  for (const dir of [a, b]) await writeMegatronCheckpoint(dir, options)
  const text = (dir: string): Promise<string> => readFile(join(dir, 'iter_0000001', manifestName), 'utf8')
  expect(await text(a)).toBe(await text(b))
})

const folder = 'iter_0000001'
const refusals: readonly [string, (dir: string) => Promise<unknown>, Partial<WriteMegatronOptions>, string][] = [
  [
    'under another plan',
    async () => undefined,
    { parallel: { tp: 1, pp: 2 }, layout: 'mcore' },
    'was made under another plan (layout: legacy there, mcore here, tp: 2 there, 1 here, paddedVocabSize: 22 there, 21 here)',
  ],
  [
    'with a file of someone else in it',
    dir => writeFile(join(dir, folder, 'mp_rank_01_000', 'distrib_optim.pt'), ''),
    {},
    'holds mp_rank_01_000/distrib_optim.pt, which the conversion did not make',
  ],
  [
    'that no conversion finished',
    dir => rm(join(dir, folder, manifestName)),
    {},
    `holds mp_rank_00_000/model_optim_rng.pt, mp_rank_00_001/model_optim_rng.pt, mp_rank_01_000/model_optim_rng.pt and 1 more and no ${manifestName}`,
  ],
  [
    'beside files of a Hugging Face model',
    dir => writeFile(join(dir, 'config.json'), '{}'),
    {},
    'holds config.json, which no Megatron checkpoint has',
  ],
  [
    'beside a later iteration',
    dir => mkdir(join(dir, 'iter_0002000')),
    {},
    'holds iter_0002000, which is later than iteration 1',
  ],
]

test.each(refusals)(
  'a folder %s is not written into, and the error says what to do',
  async (_, edit, more, message) => {
    const dir = await temporaryFolder()
    await writeMegatronCheckpoint(dir, options)
    await edit(dir)
    const error = await writeMegatronCheckpoint(dir, { ...options, ...more }).catch(it => it)
    expect(error).toBeInstanceOf(InputError)
    expect(error.message).toContain(message)
    expect(error.hint).toBe('Convert into a new folder, or move this one away first.')
  },
)

test.each([
  ['no JSON', '{', 'JSON'],
  ['of another format', '{"format":2,"plan":{},"files":[]}', 'the manifest of a conversion'],
  [
    'naming a file outside',
    '{"format":1,"plan":{},"files":[{"file":"../x","byteLength":1,"tensors":[]}]}',
    'the manifest of a conversion',
  ],
])('a manifest that is %s is refused', async (_, text, expected) => {
  const dir = await temporaryFolder()
  await writeFile(join(dir, manifestName), text)
  await expect(readManifest(dir)).rejects.toMatchObject({ code: 'bad-format', file: join(dir, manifestName), expected })
})
