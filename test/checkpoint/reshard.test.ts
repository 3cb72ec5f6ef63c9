import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { filesBelow } from '../../src/checkpoint/conversion-target.ts'
import { reshardCheckpoint } from '../../src/checkpoint/reshard.ts'
import type { MegatronLayout, ParallelSizes } from '../../src/checkpoint/stage-weights.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { newFolder } from '../engine/steps.ts'
import { llama, memorySource, qwen2, tinyWeights } from './fixtures/tiny-model.ts'

interface Cut {
  readonly layout: MegatronLayout
  readonly parallel: ParallelSizes
}

const cuts: Readonly<Record<string, Cut>> = {
  'legacy 1 × 1': { layout: 'legacy', parallel: { tp: 1, pp: 1 } },
  'legacy 4 × 1': { layout: 'legacy', parallel: { tp: 4, pp: 1 } },
  'legacy 2 × 2': { layout: 'legacy', parallel: { tp: 2, pp: 2 } },
  'legacy 1 × 3 uneven': { layout: 'legacy', parallel: { tp: 1, pp: 3, layersPerStage: [1, 2, 1] } },
  'legacy 2 × 2 virtual': { layout: 'legacy', parallel: { tp: 2, pp: 2, layersPerVirtualStage: 1 } },
  'legacy 8 × 1, copied groups': { layout: 'legacy', parallel: { tp: 8, pp: 1 } },
  'mcore 1 × 1': { layout: 'mcore', parallel: { tp: 1, pp: 1 } },
  'mcore 2 × 4': { layout: 'mcore', parallel: { tp: 2, pp: 4 } },
  'mcore 4 × 2 uneven': { layout: 'mcore', parallel: { tp: 4, pp: 2, layersPerStage: [3, 1] } },
  'mcore 8 × 2 virtual, copied groups': { layout: 'mcore', parallel: { tp: 8, pp: 2, layersPerVirtualStage: 1 } },
}

// 21 rows of vocabulary: another padding for every tp.
const models: Readonly<Record<string, Architecture>> = {
  'a Qwen with biases': qwen2,
  'a tied model': { ...llama, tiedEmbeddings: true },
}

async function contents(dir: string): Promise<ReadonlyMap<string, string>> {
  const files = (await filesBelow(dir)).sort()
  return new Map(
    await Promise.all(files.map(async file => [file, (await readFile(join(dir, file))).toString('latin1')] as const)),
  )
}

describe.each(Object.entries(models))('resharding %s', (_, architecture) => {
  let dir: string
  const straight = (cut: string) => join(dir, cut)

  beforeAll(async () => {
    dir = await newFolder()
    const source = memorySource(tinyWeights(architecture))
    for (const [name, cut] of Object.entries(cuts))
      await writeMegatronCheckpoint(straight(name), {
        ...cut,
        ...{ source, architecture, iteration: 7, consumedTrainSamples: 99, flush: false },
      })
  })

  it.each(Object.keys(cuts))('from %s to every other gives the bytes of a conversion straight to it', async from => {
    for (const [name, cut] of Object.entries(cuts)) {
      const to = join(dir, `${from} to ${name}`)
      expect(await reshardCheckpoint(straight(from), { ...cut, to, architecture, flush: false })).toBe('none')
      expect(await contents(to), name).toEqual(await contents(straight(name)))
    }
  })
})
