import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { listShards } from '../../src/checkpoint/megatron-folder.ts'
import { flattenModel } from '../../src/checkpoint/model-state.ts'
import { hfTensors } from '../../src/checkpoint/open-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import type { PickleTensor } from '../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../src/formats/torch-file.ts'
import { familyModels } from './fixtures/families.ts'
import { memorySource, temporaryFolder, type Weights } from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('golden/loader-tensors.json', import.meta.url))
const loaded: Record<string, Record<string, string>> = JSON.parse(readFileSync(golden, 'utf8'))

const sha256 = (bytes: Uint8Array | string): Buffer => createHash('sha256').update(bytes).digest()

/** The values that golden/README.md describes. */
function patterned(name: string, count: number): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(count / 16) }, (_, i) => sha256(`${name}#${i}`))
  const words = new Uint16Array(new Uint8Array(Buffer.concat(blocks)).buffer, 0, count)
  return new Uint8Array(words.map(word => (word & 0x83ff) | 0x3d00).buffer)
}

test.each(Object.keys(loaded))("a %s becomes what the real converter's loader makes of it", async family => {
  const architecture = { ...familyModels[family]!, numLayers: 2 }
  const weights: Weights = new Map(
    [...hfTensors(architecture)].map(([name, shape]) => {
      const count = shape.reduce((a, b) => a * b)
      return [name, { dtype: 'BF16', shape, bytes: patterned(name, count) }]
    }),
  )
  const dir = join(await temporaryFolder(), 'out')
  const parallel = { tp: 1, pp: 1 }
  await writeMegatronCheckpoint(dir, {
    ...{ source: memorySource(weights), architecture, parallel, layout: 'legacy', iteration: 1 },
  })
  const file = await openTorchFile((await listShards(dir, 1))[0]![0]!)
  const found: Record<string, string> = {}
  for (const [name, value] of flattenModel(file).chunks[0]!) {
    if (value === null) continue
    const tensor = value as PickleTensor
    found[name] = sha256(await file.readRows(tensor, { start: 0, end: tensor.shape[0]! })).toString('hex')
  }
  await file.close()
  expect(found).toEqual(loaded[family])
})
