import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import type { MegatronLayout, ParallelSizes } from '../../src/checkpoint/stage-weights.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { models } from '../../src/models/supported-model.ts'
import { familyConfig, familyWeights } from './fixtures/families.ts'
import { memorySource, readAll, safetensorsBytes, sorted, type Weights } from './fixtures/tiny-model.ts'

let root: string
beforeAll(async () => {
  // A thousand checkpoints are flushed to the disk; where there is a disk in memory, that is quick.
  root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ascendflow-families-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** The same ratios of heads, groups and widths, and a vocabulary as odd as the model's thousands. */
function scaledDown(model: Architecture): Architecture {
  const { numAttentionHeads, numQueryGroups, ffnHiddenSize, hiddenSize } = model
  const factor = [10, 8, 16, 5, 2].find(it => (numQueryGroups / it) % 4 === 0) ?? 1
  const heads = numAttentionHeads / factor
  const kvChannels = 2
  const hidden = heads * kvChannels
  return {
    ...model,
    ...{ numLayers: 4, numAttentionHeads: heads, numQueryGroups: numQueryGroups / factor, kvChannels },
    ...{ hiddenSize: hidden, ffnHiddenSize: 8 * Math.ceil(((ffnHiddenSize / hiddenSize) * hidden) / 8) },
    vocabSize: Math.floor(model.vocabSize / 1000),
  }
}

// The first twelve that a model can have are tried.
const sizes: readonly ParallelSizes[] = [
  { tp: 1, pp: 1 },
  { tp: 2, pp: 1 },
  { tp: 4, pp: 1 },
  { tp: 8, pp: 2 },
  { tp: 1, pp: 3, layersPerStage: [2, 1, 1] },
  { tp: 2, pp: 3, layersPerStage: [1, 2, 1] },
  { tp: 1, pp: 2, layersPerVirtualStage: 1 },
  { tp: 2, pp: 2, layersPerVirtualStage: 1 },
  { tp: 4, pp: 2, layersPerVirtualStage: 1 },
  { tp: 1, pp: 2 },
  { tp: 2, pp: 2 },
  { tp: 1, pp: 4 },
  { tp: 4, pp: 2 },
  { tp: 2, pp: 4 },
  { tp: 2, pp: 2, layersPerStage: [3, 1] },
  { tp: 2, pp: 4, layersPerVirtualStage: 1 },
]

function possible({ numAttentionHeads, numQueryGroups }: Architecture): readonly ParallelSizes[] {
  const fits = (tp: number) => numAttentionHeads % tp === 0 && (numQueryGroups % tp === 0 || tp % numQueryGroups === 0)
  return sizes.filter(({ tp }) => fits(tp)).slice(0, 12)
}

describe.each(models)('$id, scaled down', ({ id, architecture }) => {
  const model = scaledDown(architecture)

  test('keeps what sets the model apart', () => {
    expect(model.numAttentionHeads / model.numQueryGroups).toBe(
      architecture.numAttentionHeads / architecture.numQueryGroups,
    )
    expect(possible(model).length).toBe(12)
  })

  test.each<MegatronLayout>(['legacy', 'mcore'])('comes back from every %s layout bit for bit', async layout => {
    const weights = familyWeights(model)
    const expected = sorted(weights)
    const check = async (parallel: ParallelSizes, i: number) => {
      const dir = join(root, `${id}-${layout}-${i}`)
      await writeMegatronCheckpoint(dir, {
        ...{ source: memorySource(weights), architecture: model, parallel, layout, iteration: 1 },
      })
      const opened = await openMegatronCheckpoint(dir, { architecture: model })
      expect(sorted(await readAll(opened))).toEqual(expected)
      await opened.close()
      await rm(dir, { recursive: true })
    }
    await Promise.all(possible(model).map(check))
  })

  test('comes back as the very files that it was', async () => {
    const [hf, megatron, back] = ['hf', 'mg', 'back'].map(name => join(root, `${id}-${name}`)) as [
      string,
      string,
      string,
    ]
    await mkdir(hf)
    const weights = new Map(familyWeights(model)) as Map<
      string,
      Weights extends ReadonlyMap<string, infer T> ? T : never
    >
    const inverse = { dtype: 'F32', shape: [1], bytes: new Uint8Array([1, 2, 3, 4]) } as const
    if (model.family === 'chatglm') weights.set('transformer.rotary_pos_emb.inv_freq', inverse)
    await writeFile(join(hf, 'config.json'), JSON.stringify(familyConfig(model)))
    await writeFile(join(hf, 'model.safetensors'), safetensorsBytes(weights))
    const source = await openHfModel(hf)
    expect(source.architecture).toEqual(model)
    const parallel = { tp: 2, pp: 2 }
    await writeMegatronCheckpoint(megatron, { source, architecture: model, parallel, layout: 'mcore', iteration: 1 })
    await source.close()
    const opened = await openMegatronCheckpoint(megatron, { architecture: model })
    await writeHfModel(back, { source: opened, architecture: model, like: hf })
    await opened.close()
    expect(await safetensorsContent(join(back, 'model.safetensors'))).toEqual(
      await safetensorsContent(join(hf, 'model.safetensors')),
    )
  })
})

/** Every tensor of a file by name, read by the format's description and by none of our code. */
async function safetensorsContent(file: string): Promise<Record<string, unknown>> {
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE())
  const { __metadata__, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length))
  return Object.fromEntries(
    Object.entries(header as Record<string, { data_offsets: [number, number] }>).map(([name, tensor]) => {
      const { data_offsets, ...rest } = tensor
      const [from, to] = data_offsets.map(at => at + 8 + length)
      return [name, { ...rest, bytes: bytes.toString('base64', from, to) }]
    }),
  )
}
