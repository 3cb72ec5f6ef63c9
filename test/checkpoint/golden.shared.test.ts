import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { listShards } from '../../src/checkpoint/megatron-folder.ts'
import { openHfModel } from '../../src/checkpoint/open-hf-model.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import type { MegatronLayout, ParallelSizes } from '../../src/checkpoint/stage-weights.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { checkTorchFile } from '../../src/formats/torch-file.ts'
import { expectSameShards } from './fixtures/compare-shards.ts'
import { readAll, sorted, temporaryFolder } from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('../../../shared/golden/checkpoints/', import.meta.url))

const cases: readonly { out: string; hf: string; layout: MegatronLayout; parallel: ParallelSizes }[] = [
  { out: 'out_g2_tp2pp2', hf: 'hf_llama', layout: 'legacy', parallel: { tp: 2, pp: 2 } },
  { out: 'out_g2_q2', hf: 'hf_qwen2tie', layout: 'legacy', parallel: { tp: 2, pp: 2 } },
  { out: 'out_g2_vpp', hf: 'hf_l12', layout: 'legacy', parallel: { tp: 1, pp: 3, layersPerVirtualStage: 2 } },
  { out: 'out_g3_mc', hf: 'hf_llama104', layout: 'mcore', parallel: { tp: 2, pp: 2 } },
  { out: 'out_g3_dyn', hf: 'hf_l12', layout: 'mcore', parallel: { tp: 1, pp: 3, layersPerStage: [3, 5, 4] } },
  { out: 'out_g3_q2', hf: 'hf_qwen2tie', layout: 'mcore', parallel: { tp: 2, pp: 2 } },
]

describe.skipIf(!existsSync(golden))('checkpoints of the real converters', () => {
  for (const { out, hf, layout, parallel } of cases) {
    test(`${out} reads back to exactly the tensors of ${hf}, with the configuration and without`, async () => {
      const model = await openHfModel(join(golden, hf))
      const weights = sorted(await readAll(model))
      for (const architecture of [model.architecture, undefined]) {
        const source = await openMegatronCheckpoint(join(golden, out), { architecture })
        expect(source).toMatchObject({ layout, tp: parallel.tp, pp: parallel.pp, iteration: 1 })
        expect(sorted(await readAll(source))).toEqual(weights)
        await source.close()
      }
      await model.close()
    })

    test(`${hf} becomes ${out} tensor for tensor, and the very safetensors file again`, async () => {
      const dir = await temporaryFolder()
      const model = await openHfModel(join(golden, hf))
      const { architecture } = model
      await writeMegatronCheckpoint(join(dir, 'mg'), { source: model, architecture, parallel, layout, iteration: 1 })
      expect(await expectSameShards(join(dir, 'mg'), join(golden, out))).toBeGreaterThan(80)
      for (const path of (await listShards(join(golden, out), 1)).flat()) await checkTorchFile(path)
      const back = await openMegatronCheckpoint(join(dir, 'mg'))
      await writeHfModel(join(dir, 'hf'), { source: back, architecture, like: join(golden, hf) })
      for (const name of ['model.safetensors', 'config.json', 'generation_config.json']) {
        expect([name, readFileSync(join(dir, 'hf', name)).equals(readFileSync(join(golden, hf, name)))]).toEqual([
          name,
          true,
        ])
      }
      await model.close()
      await back.close()
    })
  }
})
