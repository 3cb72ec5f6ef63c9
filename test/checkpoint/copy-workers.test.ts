import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { readManifest } from '../../src/checkpoint/manifest.ts'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { reshardCheckpoint } from '../../src/checkpoint/reshard.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { CancelledError, FormatError, InputError } from '../../src/errors.ts'
import { openSafetensors } from '../../src/formats/safetensors.ts'
import type { TensorSource } from '../../src/formats/tensor.ts'
import { checkTorchFile } from '../../src/formats/torch-file.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { hfShapes, llama, temporaryFolder, tinyWeights, writeHfFolder } from './fixtures/tiny-model.ts'

const fewGroups: Architecture = { ...llama, numQueryGroups: 2 }

/** What is in the files of a folder, by their paths. */
async function contents(dir: string): Promise<Record<string, string>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
  const pairs = files.sort().map(async file => [file.slice(dir.length), (await readFile(file)).toString('base64')])
  return Object.fromEntries(await Promise.all(pairs))
}

async function folderWith(model: Architecture, weights = tinyWeights(model)) {
  const dir = await temporaryFolder()
  const at = (name: string) => join(dir, name)
  await writeHfFolder(at('hf'), model, weights)
  return { dir, at }
}

/** Random bytes for a tensor of two-byte elements. */
function noise(shape: readonly number[]): Buffer {
  return randomBytes(shape.reduce((a, b) => a * b, 2))
}

/** Converts the model in `hf`, there and back, and to another layout; gives the contents of all three folders. */
async function convertAll(at: (name: string) => string, workers: number): Promise<unknown[]> {
  const [mg, hf, other] = ['mg', 'back', 'other'].map(name => at(`${name}-${workers}`)) as [string, string, string]
  const seen: number[] = []
  const source = await openHfModel(at('hf'))
  const { architecture } = source
  await writeMegatronCheckpoint(mg, {
    ...{ source, architecture, parallel: { tp: 4, pp: 2 }, layout: 'legacy', iteration: 1, dtype: 'F32', workers },
    onProgress: (done, total) => seen.push(done / total),
  })
  await source.close()
  const shards = await openMegatronCheckpoint(mg, { architecture })
  await writeHfModel(hf, { source: shards, architecture, like: at('hf'), dtype: 'BF16', maxShardBytes: 4000, workers })
  await shards.close()
  await reshardCheckpoint(mg, { to: other, architecture, parallel: { tp: 2, pp: 1 }, layout: 'mcore', workers })
  expect([seen.at(-1), seen.every((it, i) => i === 0 || it > seen[i - 1]!)]).toEqual([1, true])
  return Promise.all([mg, hf, other].map(contents))
}

test.each([
  ['a Llama', llama],
  ['a model with fewer groups than ranks', fewGroups],
])('threads write the same bytes as one: %s', async (_, model) => {
  const { at } = await folderWith(model)
  expect(await convertAll(at, 3)).toEqual(await convertAll(at, 1))
})

test('a tensor larger than a section is put together, and so is its CRC-32', async () => {
  const large = { ...llama, numLayers: 1, vocabSize: 20_011, hiddenSize: 1024, tiedEmbeddings: true }
  const weights = new Map(
    hfShapes(large).map(([name, shape]) => [name, { dtype: 'BF16' as const, shape, bytes: noise(shape) }]),
  )
  const { at } = await folderWith(large, weights)
  const source = await openHfModel(at('hf'))
  const parallel = { tp: 1, pp: 1 }
  for (const workers of [1, 2])
    await writeMegatronCheckpoint(at(`mg-${workers}`), {
      ...{ source, architecture: large, parallel, layout: 'mcore', iteration: 1, workers },
    })
  await source.close()
  const shard = join('iter_0000001', 'mp_rank_00', 'model_optim_rng.pt')
  await checkTorchFile(join(at('mg-2'), shard))
  const [one, two] = await Promise.all([1, 2].map(workers => readFile(join(at(`mg-${workers}`), shard))))
  expect(one!.equals(two!)).toBe(true)
  const checkpoint = await openMegatronCheckpoint(at('mg-2'), { architecture: large })
  await writeHfModel(at('back'), { source: checkpoint, architecture: large, like: at('hf'), workers: 2 })
  await checkpoint.close()
  const back = await openSafetensors(join(at('back'), 'model.safetensors'))
  const rows = await back.readRows('model.embed_tokens.weight', 0, large.vocabSize)
  expect(Buffer.compare(rows, weights.get('model.embed_tokens.weight')!.bytes)).toBe(0)
  const noted = (await readManifest(at('back')))!.files[0]!.tensors.find(({ name }) => name.includes('embed'))!
  expect(noted.crc32).toBe(crc32(rows).toString(16).padStart(8, '0'))
  await back.close()
})

test('an error of a thread keeps its kind, message and file, and nothing is left behind', async () => {
  const { at, dir } = await folderWith(llama)
  const source = await openHfModel(at('hf'))
  const file = join(at('hf'), 'model.safetensors')
  const size = (await stat(file)).size - 100
  await truncate(file, size)
  const options = { source, architecture: llama, parallel: { tp: 2, pp: 2 }, layout: 'mcore', iteration: 1 } as const
  const [one, two] = await Promise.all(
    [1, 2].map(workers => writeMegatronCheckpoint(at(`mg-${workers}`), { ...options, workers }).catch(it => it)),
  )
  await source.close()
  expect(two).toBeInstanceOf(FormatError)
  expect(two).toMatchObject({ code: 'bad-format', file, found: `a file that ends at byte ${size}` })
  expect([one.file, one.expected.slice(0, 5)]).toEqual([two.file, two.expected.slice(0, 5)])
  expect(await readdir(at('mg-2'))).toEqual([])
  expect((await readdir(dir)).sort()).toEqual(['hf', 'mg-1', 'mg-2'])
})

test('threads stop when the work is cancelled, and leave nothing', async () => {
  const { at, dir } = await folderWith({ ...llama, vocabSize: 50_000 })
  const source = await openHfModel(at('hf'))
  const abort = new AbortController()
  const writing = writeMegatronCheckpoint(at('mg'), {
    ...{ source, architecture: source.architecture, parallel: { tp: 2, pp: 2 }, layout: 'legacy', iteration: 1 },
    ...{ workers: 2, signal: abort.signal, onProgress: () => abort.abort('enough') },
  })
  await expect(writing).rejects.toMatchObject({ name: CancelledError.name, code: 'cancelled', cause: 'enough' })
  await source.close()
  expect((await readdir(dir)).sort()).toEqual(['hf', 'mg'])
  expect(await readdir(at('mg'))).toEqual([])
})

test('rows that a wrapped source computes are computed with threads too', async () => {
  const { at } = await folderWith(llama)
  const source = await openHfModel(at('hf'))
  const zeroed: TensorSource = {
    ...source,
    readRows: async (...args) => (await source.readRows(...args)).fill(0),
  }
  await writeMegatronCheckpoint(at('mg'), {
    ...{ source: zeroed, architecture: llama, parallel: { tp: 2, pp: 1 }, layout: 'mcore', iteration: 1, workers: 2 },
  })
  await source.close()
  const written = await openMegatronCheckpoint(at('mg'), { architecture: llama })
  expect(Buffer.from(await written.readRows('lm_head.weight', 0, 21)).every(byte => byte === 0)).toBe(true)
  await written.close()
})

test.each([0, 1.5, -2])('%d workers are refused', async workers => {
  const { at } = await folderWith(llama)
  const source = await openHfModel(at('hf'))
  const options = { source, architecture: llama, parallel: { tp: 1, pp: 1 }, layout: 'mcore', iteration: 1 } as const
  await expect(writeMegatronCheckpoint(at('mg'), { ...options, workers })).rejects.toThrow(InputError)
  await source.close()
})
