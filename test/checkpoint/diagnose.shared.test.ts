import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { diagnose } from '../../src/checkpoint/diagnose.ts'
import { verify } from '../../src/checkpoint/verify.ts'

const golden = fileURLToPath(new URL('../../../shared/golden/checkpoints/', import.meta.url))

const pairs = [
  ['out_g2_tp2pp2', 'hf_llama'],
  ['out_g2_q2', 'hf_qwen2tie'],
  ['out_g2_vpp', 'hf_l12'],
  ['out_g3_mc', 'hf_llama104'],
  ['out_g3_dyn', 'hf_l12'],
  ['out_g3_q2', 'hf_qwen2tie'],
] as const

describe.skipIf(!existsSync(golden))('no alarm for what the real converters wrote', () => {
  test.each(pairs)('%s, made of %s', async (out, model) => {
    const [megatron, hf] = [join(golden, out), join(golden, model)]
    for (const dir of [megatron, hf]) expect((await diagnose(dir)).findings).toEqual([])
    expect(await verify({ hf, megatron })).toMatchObject({ equal: true, checked: 'values' })
    expect(await verify({ megatron })).toMatchObject({ equal: true, checked: 'digests' })
  })
})
