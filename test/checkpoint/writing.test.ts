import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { type WriteMegatronOptions, writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { CancelledError } from '../../src/errors.ts'
import { floatValues } from '../../src/formats/float-dtype.ts'
import { type PickleNamespace, pickleFloat } from '../../src/formats/pickle-value.ts'
import type { TensorSource } from '../../src/formats/tensor.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import {
  llama,
  memorySource,
  readAll,
  sorted,
  temporaryFolder,
  tinyWeights,
  writeHfFolder,
} from './fixtures/tiny-model.ts'

const options: WriteMegatronOptions = {
  source: memorySource(tinyWeights(llama)),
  architecture: llama,
  parallel: { tp: 2, pp: 2 },
  layout: 'legacy',
  iteration: 1,
}

/** A source that does something before its n-th reading. */
function tripwire(source: TensorSource, readings: number, act: () => void): TensorSource {
  let count = 0
  return {
    ...source,
    readRows: (...args) => {
      if (++count === readings) act()
      return source.readRows(...args)
    },
  }
}

test.each([5, 70])(
  'a failing source (reading %d) leaves no trace, and the checkpoint before it untouched',
  async reading => {
    const dir = await temporaryFolder()
    await writeMegatronCheckpoint(dir, options)
    const before = await readdir(dir, { recursive: true })
    for (const iteration of [1, 2]) {
      const source = tripwire(options.source, reading, () => {
        throw new Error('disk on fire')
      })
      await expect(writeMegatronCheckpoint(dir, { ...options, source, iteration })).rejects.toThrow('disk on fire')
    }
    expect(await readdir(dir, { recursive: true })).toEqual(before)
    expect(await readFile(join(dir, 'latest_checkpointed_iteration.txt'), 'latin1')).toBe('1')
    const source = await openMegatronCheckpoint(dir)
    expect(sorted(await readAll(source))).toEqual(sorted(tinyWeights(llama)))
    await source.close()
  },
)

test('a cancelled checkpoint leaves nothing, and the error carries the reason', async () => {
  const dir = await temporaryFolder()
  const abort = new AbortController()
  const source = tripwire(options.source, 30, () => abort.abort('enough'))
  const error = await writeMegatronCheckpoint(join(dir, 'out'), { ...options, source, signal: abort.signal }).catch(
    it => it,
  )
  expect(error).toBeInstanceOf(CancelledError)
  expect(error.cause).toBe('enough')
  expect(await readdir(join(dir, 'out'))).toEqual([])
})

test('a cancelled Hugging Face model leaves nothing', async () => {
  const dir = await temporaryFolder()
  await writeHfFolder(join(dir, 'hf'), llama, tinyWeights(llama))
  const abort = new AbortController()
  const source = tripwire(options.source, 10, () => abort.abort())
  const writing = writeHfModel(join(dir, 'out'), {
    source,
    architecture: llama,
    like: join(dir, 'hf'),
    signal: abort.signal,
  })
  await expect(writing).rejects.toThrow(CancelledError)
  expect(await readdir(dir)).toEqual(['hf'])
})

test('writing an iteration again under the same plan replaces it', async () => {
  const dir = await temporaryFolder()
  await writeMegatronCheckpoint(dir, options)
  const before = await readdir(dir, { recursive: true })
  const other = new Map([...tinyWeights(llama)].map(([name, it]) => [name, { ...it, bytes: it.bytes.map(b => b ^ 1) }]))
  await writeMegatronCheckpoint(dir, { ...options, source: memorySource(other) })
  expect(await readdir(dir, { recursive: true })).toEqual(before)
  const source = await openMegatronCheckpoint(dir)
  expect(sorted(await readAll(source))).toEqual(sorted(other))
  await source.close()
})

test('progress rises to the bytes of all shards, padding and copies included', async () => {
  const dir = await temporaryFolder()
  const seen: [number, number][] = []
  await writeMegatronCheckpoint(dir, { ...options, onProgress: (done, total) => seen.push([done, total]) })
  // Two copies of the replicated norms, 22 padded rows in embedding and output layer.
  const elements = 2 * 22 * 16 + 4 * (32 * 16 + 16 * 16 + 48 * 16 + 16 * 24 + 2 * 2 * 16) + 2 * 16
  expect(seen.at(-1)).toEqual([2 * elements, 2 * elements])
  expect(seen.every(([done], i) => i === 0 || done > seen[i - 1]![0])).toBe(true)
})

test.each([
  ['F32', 'BF16', 'bfloat16'],
  ['F32', 'F16', 'float16'],
  ['BF16', 'F32', 'float32'],
] as const)('%s weights are stored as %s, and params_dtype and config.json say so', async (from, to, name) => {
  const dir = await temporaryFolder()
  const weights = tinyWeights(llama, from)
  await writeHfFolder(join(dir, 'hf'), llama, weights)
  await writeMegatronCheckpoint(join(dir, 'mg'), { ...options, source: memorySource(weights), dtype: to })
  const file = await openTorchFile(join(dir, 'mg', 'iter_0000001', 'mp_rank_00_000', 'model_optim_rng.pt'))
  const { fields } = (file.value as ReadonlyMap<string, PickleNamespace>).get('args')!
  expect([fields.get('params_dtype'), fields.get('bf16'), fields.get('fp16')]).toEqual([
    { type: 'dtype', dtype: to },
    to === 'BF16',
    to === 'F16',
  ])
  await file.close()

  const source = await openMegatronCheckpoint(join(dir, 'mg'))
  await writeHfModel(join(dir, 'out'), { source, architecture: llama, like: join(dir, 'hf') })
  expect(JSON.parse(await readFile(join(dir, 'out', 'config.json'), 'utf8')).torch_dtype).toBe(name)
  const tensor = 'model.layers.3.mlp.up_proj.weight'
  expect(source.tensors.get(tensor)!.dtype).toBe(to)
  const [stored, given] = [
    floatValues(await source.readRows(tensor, 0, 24), to),
    floatValues(weights.get(tensor)!.bytes, from),
  ]
  const step = { BF16: 2 ** -8, F16: 2 ** -11, F32: 0 }[to]
  expect(stored.every((value, i) => Math.abs(value - given[i]!) <= step * Math.abs(given[i]!) + 2 ** -25)).toBe(true)
  await source.close()
})

test('a config.json that says dtype instead of torch_dtype keeps its key', async () => {
  const dir = await temporaryFolder()
  await writeHfFolder(join(dir, 'hf'), llama, tinyWeights(llama))
  const config = JSON.parse(await readFile(join(dir, 'hf', 'config.json'), 'utf8'))
  const { torch_dtype: _, ...rest } = config
  await writeFile(join(dir, 'hf', 'config.json'), JSON.stringify({ ...rest, dtype: 'float32' }))
  await writeHfModel(join(dir, 'out'), { source: options.source, architecture: llama, like: join(dir, 'hf') })
  expect(JSON.parse(await readFile(join(dir, 'out', 'config.json'), 'utf8'))).toEqual({ ...rest, dtype: 'bfloat16' })
})

test('extra arguments are added, and win over the usual ones', async () => {
  const dir = await temporaryFolder()
  const extraArgs = { seq_length: 512, lr: pickleFloat(1), global_batch_size: 8, data_path: ['1.0', 'corpus'] }
  await writeMegatronCheckpoint(dir, { ...options, extraArgs })
  const file = await openTorchFile(join(dir, 'iter_0000001', 'mp_rank_01_001', 'model_optim_rng.pt'))
  const { fields } = (file.value as ReadonlyMap<string, PickleNamespace>).get('args')!
  expect(Object.fromEntries(fields)).toMatchObject(extraArgs)
  await file.close()
})

test('rows are read in blocks of at most 2 MiB, however large the tensor is', async () => {
  const dir = await temporaryFolder()
  const wide = { ...llama, numLayers: 1, hiddenSize: 1024, ffnHiddenSize: 4096, vocabSize: 4099, kvChannels: 128 }
  const weights = tinyWeights(wide)
  const inMemory = memorySource(weights)
  let largest = 0
  const source: TensorSource = {
    ...inMemory,
    async readRows(...args) {
      const bytes = await inMemory.readRows(...args)
      largest = Math.max(largest, bytes.length)
      return bytes
    },
  }
  await writeMegatronCheckpoint(dir, { ...options, source, architecture: wide, parallel: { tp: 4, pp: 1 } })
  expect(largest).toBe(2 * 2 ** 20)
  const opened = await openMegatronCheckpoint(dir, { architecture: wide })
  for (const [name, { shape, bytes }] of weights) {
    expect([name, Buffer.compare(await opened.readRows(name, 0, shape[0]!), bytes)]).toEqual([name, 0])
  }
  await opened.close()
})

test('a writing that goes on removes the temporary files that a killed one left', async () => {
  const [dir, calm] = [await temporaryFolder(), await temporaryFolder()]
  await writeMegatronCheckpoint(calm, options)
  const source: TensorSource = {
    ...options.source,
    readRows: async (name, ...rest) => {
      if (name === 'lm_head.weight') throw new Error('killed')
      return options.source.readRows(name, ...rest)
    },
  }
  await expect(writeMegatronCheckpoint(dir, { ...options, source, resume: true })).rejects.toThrow('killed')
  expect((await readdir(dir)).sort()).toEqual(['.iter_0000001.partial', '.iter_0000001.parts.json'])
  for (const file of [
    '..iter_0000001.parts.json.0123456789ab.tmp',
    '.latest_checkpointed_iteration.txt.0123456789ab.tmp',
    '.iter_0000001.partial/.ascendflow-manifest.json.0123456789ab.tmp',
  ])
    await writeFile(join(dir, file), '{')
  await writeMegatronCheckpoint(dir, { ...options, resume: true })
  expect((await readdir(dir, { recursive: true })).sort()).toEqual((await readdir(calm, { recursive: true })).sort())
})
