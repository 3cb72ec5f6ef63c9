import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { architectureFromConfig } from '../../src/models/config.ts'
import { expectSameShards } from './fixtures/compare-shards.ts'
import { memorySource, readAll, temporaryFolder } from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('golden', import.meta.url))
const checkpoint = join(golden, 'legacy-tp2-pp2')
const json = (name: string): unknown => JSON.parse(readFileSync(join(golden, name), 'utf8'))
const architecture = architectureFromConfig(json('config.json'))

test("the real converter's checkpoint reads back to exactly the Hugging Face tensors that it was made of", async () => {
  const source = await openMegatronCheckpoint(checkpoint, { architecture })
  expect(source).toMatchObject({
    iteration: 1,
    tp: 2,
    pp: 2,
    layout: 'legacy',
    paddedVocabSize: 102,
    consumedTrainSamples: 0,
  })
  const found = Object.fromEntries(
    [...(await readAll(source))].map(([name, { shape, bytes }]) => [
      name,
      { shape, sha256: createHash('sha256').update(bytes).digest('hex') },
    ]),
  )
  expect(found).toEqual(json('hf-tensors.json'))
  await source.close()
})

test('without a configuration, the numbers come from the args in the file', async () => {
  const source = await openMegatronCheckpoint(checkpoint)
  // The 1.1 converter writes 4096 positions whatever the model has.
  expect(source.architecture).toEqual({ ...architecture, maxPositionEmbeddings: 4096 })
  await source.close()
})

test('converting the same weights gives the same shards: keys, shapes, types, bytes, and the args that matter', async () => {
  const source = await openMegatronCheckpoint(checkpoint, { architecture })
  const weights = await readAll(source)
  await source.close()
  const dir = await temporaryFolder()
  const parallel = { tp: 2, pp: 2 }
  await writeMegatronCheckpoint(dir, {
    source: memorySource(weights),
    architecture,
    parallel,
    layout: 'legacy',
    iteration: 1,
  })
  // On 2 ranks: 6 weights and 4 _extra_state per layer, embedding; final norm, output layer and its _extra_state.
  expect(await expectSameShards(dir, checkpoint)).toBe(2 * (13 + 8 + 14 + 9))
  expect(readFileSync(join(dir, 'latest_checkpointed_iteration.txt'), 'latin1')).toBe('1')
})
