import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { diagnose } from '../../src/checkpoint/diagnose.ts'
import { manifestName } from '../../src/checkpoint/manifest.ts'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { verify } from '../../src/checkpoint/verify.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { corruptions, seeded, type Victim } from './corruptions/corruptions.ts'
import { llama, memorySource, tinyWeights, type Weights, writeHfFolder } from './fixtures/tiny-model.ts'

let clean: string
let place: string

const other: Weights = new Map(
  [...tinyWeights(llama)].map(([name, it]) => [
    name,
    { ...it, bytes: it.bytes.map((byte, i) => byte ^ (i % 2 ? 0 : 3)) },
  ]),
)

beforeAll(async () => {
  clean = await mkdtemp(join(tmpdir(), 'ascendflow-clean-'))
  place = await mkdtemp(join(tmpdir(), 'ascendflow-corrupt-'))
  await writeHfFolder(join(clean, 'hf'), llama, tinyWeights(llama))
  const convert = (name: string, weights: Weights, parallel: { tp: number; pp: number }): Promise<void> => {
    const source = memorySource(weights)
    const facts = { architecture: llama, layout: 'legacy', iteration: 1 } as const
    return writeMegatronCheckpoint(join(clean, name), { source, ...facts, parallel })
  }
  await convert('megatron', tinyWeights(llama), { tp: 2, pp: 4 })
  await convert('other', other, { tp: 2, pp: 4 })
  await convert('tp4', tinyWeights(llama), { tp: 4, pp: 4 })
  await convert('single', tinyWeights(llama), { tp: 1, pp: 1 })
})

afterAll(async () => {
  for (const dir of [clean, place]) await rm(dir, { recursive: true, force: true })
})

async function victim(seed: number): Promise<Victim> {
  for (const name of ['hf', 'megatron']) {
    await rm(join(place, name), { recursive: true, force: true })
    await cp(join(clean, name), join(place, name), { recursive: true })
  }
  const dir = (name: string): string => join(clean, name)
  return {
    ...{ hf: join(place, 'hf'), megatron: join(place, 'megatron') },
    ...{ other: dir('other'), tp4: dir('tp4'), single: dir('single'), random: seeded(seed) },
  }
}

/** What doctor and comparison have to say, in words. */
async function complaints({ hf, megatron }: Victim): Promise<readonly string[]> {
  const found = [await diagnose(hf), await diagnose(megatron)].flatMap(it => it.findings.map(({ code }) => code))
  const compared = await verify({ hf, megatron })
  const own = await verify({ megatron })
  return [...found, ...[...compared.differences, ...own.differences].map(({ kind }) => kind)]
}

test('there are at least 30 kinds of corruption', () => {
  expect(Object.keys(corruptions).length).toBeGreaterThanOrEqual(30)
})

describe.each([
  ['with its manifest', true, 1],
  ['without a manifest, as the toolchain leaves it', false, 2],
])('in a checkpoint %s', (_, withManifest, seed) => {
  test.each(Object.entries(corruptions))('%s: caught', async (_, corrupt) => {
    const found = await victim(seed)
    if (!withManifest) await rm(join(found.megatron, 'iter_0000001', manifestName))
    await corrupt(found)
    expect(await complaints(found)).not.toEqual([])
  })

  test('nothing is wrong with it as it was written', async () => {
    const found = await victim(1)
    if (!withManifest) await rm(join(found.megatron, 'iter_0000001', manifestName))
    expect(await complaints(found)).toEqual([])
  })
})

test('with a manifest, what changed in the shards is caught without the model and without reading weights', async () => {
  const needContents = new Set<string>()
  for (const [name, corrupt] of Object.entries(corruptions)) {
    const found = await victim(1)
    await corrupt(found)
    const dir = await diagnose(found.megatron)
    if (dir.findings.length === 0) needContents.add(name)
  }
  const ofHf = Object.keys(corruptions).filter(name =>
    /safetensors|Hugging Face tensors|config|model$|weights$/.test(name),
  )
  // A whole folder of another training brings its own manifest; a flipped bit in a weight changes no header.
  const expected = ['weights of another training', 'a bit of a weight flipped', ...ofHf]
  expect([...needContents].filter(name => !expected.includes(name))).toEqual([])
})

test('converting the model that was opened from its folder gives no complaint either', async () => {
  const found = await victim(1)
  const source = await openHfModel(found.hf)
  await rm(found.megatron, { recursive: true })
  const facts = { architecture: source.architecture, layout: 'mcore', iteration: 7 } as const
  await writeMegatronCheckpoint(found.megatron, { source, ...facts, parallel: { tp: 1, pp: 2 } })
  await source.close()
  expect(await complaints(found)).toEqual([])
})
