import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import type { MegatronLayout, ParallelSizes } from '../../src/checkpoint/stage-weights.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import {
  llama,
  memorySource,
  qwen2,
  readAll,
  sorted,
  temporaryFolder,
  tinyWeights,
  writeHfFolder,
} from './fixtures/tiny-model.ts'

const models: Readonly<Record<string, Architecture>> = {
  'llama, grouped queries, odd vocabulary': llama,
  'llama, one group per head': { ...llama, numQueryGroups: 8 },
  'llama, heads wider than hidden / heads': { ...llama, kvChannels: 6 },
  'llama, tied': { ...llama, tiedEmbeddings: true },
  'qwen2, biases': qwen2,
  'qwen2, biases and tied': { ...qwen2, tiedEmbeddings: true, numQueryGroups: 4, vocabSize: 30 },
  mistral: { ...llama, family: 'mistral' },
}

const sizes: readonly ParallelSizes[] = [
  { tp: 1, pp: 1 },
  { tp: 2, pp: 1 },
  { tp: 1, pp: 2 },
  { tp: 4, pp: 1 },
  { tp: 2, pp: 2 },
  { tp: 4, pp: 4 },
  { tp: 2, pp: 3, layersPerStage: [1, 2, 1] },
  { tp: 2, pp: 2, layersPerVirtualStage: 1 },
]

for (const layout of ['legacy', 'mcore'] as MegatronLayout[]) {
  for (const [name, architecture] of Object.entries(models)) {
    test(`${name}: every parallel layout gives the same ${layout} weights back, bit for bit`, async () => {
      const weights = tinyWeights(architecture)
      const dir = await temporaryFolder()
      for (const [i, parallel] of sizes.entries()) {
        const path = join(dir, `${i}`)
        await writeMegatronCheckpoint(path, {
          source: memorySource(weights),
          architecture,
          parallel,
          layout,
          iteration: 1,
        })
        const opened = await openMegatronCheckpoint(path, { architecture })
        expect(sorted(await readAll(opened))).toEqual(sorted(weights))
        expect(opened).toMatchObject({ architecture, layout, iteration: 1, tp: parallel.tp, pp: parallel.pp })
        await opened.close()
      }
    })
  }
}

test('a checkpoint becomes another one of any layout and sizes without passing through Hugging Face', async () => {
  const dir = await temporaryFolder()
  const weights = tinyWeights(qwen2)
  const first = {
    source: memorySource(weights),
    architecture: qwen2,
    parallel: { tp: 4, pp: 2 },
    layout: 'legacy',
    iteration: 5,
  } as const
  await writeMegatronCheckpoint(join(dir, 'a'), first)
  const a = await openMegatronCheckpoint(join(dir, 'a'))
  await writeMegatronCheckpoint(join(dir, 'b'), {
    ...first,
    source: a,
    parallel: { tp: 1, pp: 4 },
    layout: 'mcore',
    paddedVocabSize: 128,
  })
  const b = await openMegatronCheckpoint(join(dir, 'b'))
  expect(sorted(await readAll(b))).toEqual(sorted(weights))
  expect(b).toMatchObject({ architecture: { vocabSize: 21 }, paddedVocabSize: 128, iteration: 5 })
  await a.close()
  await b.close()
})

test('a Hugging Face folder comes back complete: weights, configuration byte for byte, tokenizer, no foreign weights', async () => {
  const dir = await temporaryFolder()
  const weights = tinyWeights(llama)
  await writeHfFolder(join(dir, 'hf'), llama, weights)
  const source = await openHfModel(join(dir, 'hf'))
  expect(source.architecture).toEqual(llama)
  await writeHfModel(join(dir, 'out'), { source, architecture: llama, like: join(dir, 'hf') })
  const out = await openHfModel(join(dir, 'out'))
  expect(sorted(await readAll(out))).toEqual(sorted(weights))
  expect((await readdir(join(dir, 'out'))).sort()).toEqual([
    'ascendflow-manifest.json',
    'config.json',
    'model.safetensors',
    'tokenizer.json',
  ])
  expect(await readFile(join(dir, 'out', 'config.json'), 'utf8')).toBe(
    await readFile(join(dir, 'hf', 'config.json'), 'utf8'),
  )
  await source.close()
  await out.close()
})

test('weights larger than maxShardBytes lie in shards with an index, and read back equal', async () => {
  const dir = await temporaryFolder()
  const weights = tinyWeights(qwen2)
  await writeHfFolder(join(dir, 'hf'), qwen2, weights)
  await writeHfModel(join(dir, 'out'), {
    source: memorySource(weights),
    architecture: qwen2,
    like: join(dir, 'hf'),
    maxShardBytes: 5000,
  })
  const shards = (await readdir(join(dir, 'out'))).filter(name => name.endsWith('.safetensors')).sort()
  expect(shards.length).toBeGreaterThan(2)
  expect(shards[0]).toBe(`model-00001-of-0000${shards.length}.safetensors`)
  const index = JSON.parse(await readFile(join(dir, 'out', 'model.safetensors.index.json'), 'utf8'))
  const bytes = [...weights.values()].reduce((sum, weight) => sum + weight.bytes.length, 0)
  expect(index.metadata).toEqual({ total_size: bytes })
  expect(Object.keys(index.weight_map).sort()).toEqual([...weights.keys()].sort())
  const out = await openHfModel(join(dir, 'out'))
  expect(sorted(await readAll(out))).toEqual(sorted(weights))
  await out.close()
})
