// Writes, into the folder given, what checkpoint.py loads with PyTorch and transformers:
// hf-in/MODEL (made by the Python script before) -> mg/MODEL-LAYOUT-tpN-ppM, hf-out/MODEL-LAYOUT-tpN-ppM, lora/…
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  openHfModel,
  openMegatronCheckpoint,
  openSafetensors,
  writeHfModel,
  writeMegatronCheckpoint,
} from 'ascendflow/formats'

const dir = process.argv[2]!
const targets = ['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2'] as const
const sizes = [
  { tp: 1, pp: 1 },
  { tp: 2, pp: 2 },
  { tp: 2, pp: 1 },
  { tp: 1, pp: 4 },
]

for (const model of await readdir(join(dir, 'hf-in'))) {
  const like = join(dir, 'hf-in', model)
  const hf = await openHfModel(like)
  const { architecture } = hf
  for (const layout of ['legacy', 'mcore'] as const) {
    for (const parallel of sizes) {
      const name = `${model}-${layout}-tp${parallel.tp}-pp${parallel.pp}`
      const megatron = join(dir, 'mg', name)
      await writeMegatronCheckpoint(megatron, {
        source: hf,
        architecture,
        parallel,
        layout,
        iteration: 1,
        dtype: 'BF16',
      })
      const source = await openMegatronCheckpoint(megatron, { architecture })
      await writeHfModel(join(dir, 'hf-out', name), { source, architecture, like, maxShardBytes: 200_000 })
      await source.close()
      if (architecture.addQkvBias) continue
      const adapters = await openSafetensors(join(dir, 'adapters.safetensors'))
      const [trained, out] = [join(dir, 'lora', name), join(dir, 'lora-out', name)]
      const lora = { r: 4, alpha: 10, targets, base: megatron }
      await writeMegatronCheckpoint(trained, { source: adapters, architecture, parallel, layout, iteration: 2, lora })
      const merged = await openMegatronCheckpoint(trained, { architecture, base: megatron })
      await writeHfModel(out, { source: merged, architecture, like })
      await merged.close()
      await adapters.close()
    }
  }
  await hf.close()
}
