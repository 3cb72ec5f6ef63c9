import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { type NewTensor, pickleDict } from '../../src/formats/pickle-value.ts'
import { createTorchFile, planTorchFile } from '../../src/formats/torch-writer.ts'
import { familyConfig, familyModels, familyWeights } from './fixtures/families.ts'
import { readAll, safetensorsBytes, sorted, temporaryFolder, type Weights } from './fixtures/tiny-model.ts'

const model = familyModels.baichuan!

async function writeBin(path: string, weights: Weights): Promise<void> {
  const tensors = new Map(
    [...weights].map(([name, { dtype, shape }]) => [name, { type: 'new-tensor', dtype, shape } as NewTensor]),
  )
  const writer = await createTorchFile(path, planTorchFile(pickleDict([...tensors]), { root: 'archive' }))
  for (const [name, tensor] of tensors) await writer.write(tensor, weights.get(name)!.bytes)
  await writer.finish()
}

/** A folder as Baichuan2 is published: no safetensors. */
async function folder(): Promise<string> {
  const dir = join(await temporaryFolder(), 'hf')
  await mkdir(dir)
  await writeFile(join(dir, 'config.json'), JSON.stringify(familyConfig(model)))
  const weights = [...familyWeights(model)]
  await writeBin(join(dir, 'pytorch_model-00001-of-00002.bin'), new Map(weights.slice(0, 9)))
  await writeBin(join(dir, 'pytorch_model-00002-of-00002.bin'), new Map(weights.slice(9)))
  return dir
}

test('a model in pytorch_model-*.bin files is read, tensor for tensor', async () => {
  const source = await openHfModel(await folder())
  expect(sorted(await readAll(source))).toEqual(sorted(familyWeights(model)))
  await source.close()
})

test('a missing file of several is refused, also when the last one is missing, and safetensors go first', async () => {
  const dir = await folder()
  const [first, second] = ['1', '2'].map(n => join(dir, `pytorch_model-0000${n}-of-00002.bin`)) as [string, string]
  await rename(second, join(dir, 'away'))
  await expect(openHfModel(dir)).rejects.toThrow(/expected 2 files pytorch_model-\*\.bin, as .*00001.* says/)
  await rename(join(dir, 'away'), second)
  await rm(first)
  await expect(openHfModel(dir)).rejects.toThrow(/expected 2 files/)
  await writeFile(join(dir, 'model.safetensors'), safetensorsBytes(familyWeights(model)))
  const source = await openHfModel(dir)
  expect(source.tensors.size).toBe(familyWeights(model).size)
  await source.close()
})

test('a tensor in two files, and what is no tensor, are refused by name', async () => {
  const dir = await folder()
  const norm = new Map([...familyWeights(model)].filter(([name]) => name === 'model.norm.weight'))
  const path = join(dir, 'pytorch_model-00001-of-00002.bin')
  await rm(path)
  await writeBin(path, norm)
  await expect(openHfModel(dir)).rejects.toThrow(/every tensor once, found 'model.norm.weight' twice/)
  await rm(path)
  const writer = await createTorchFile(path, planTorchFile(pickleDict([['step', 7]]), { root: 'archive' }))
  await writer.finish()
  await expect(openHfModel(dir)).rejects.toThrow(/tensors by name, found something else as 'step'/)
})
