// Takes each model of hf/ in the folder given through Megatron shards and back: back/MODEL-LAYOUT.
import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { hfModel, hfToMegatron, megatronToHf, run } from 'ascendflow'

const dir = process.argv[2]!
await mkdir(join(dir, 'back'))
for (const name of await readdir(join(dir, 'hf'))) {
  for (const layout of ['legacy', 'mcore'] as const) {
    // Legacy models have no norms of heads.
    if (name === 'qwen3' && layout === 'legacy') continue
    const model = hfModel(join(dir, 'hf', name))
    // Twice as many ranks as query groups for one of them.
    const parallel = { tp: name === 'chatglm' ? 4 : 2, pp: 2 }
    const checkpoint = hfToMegatron({ model, parallel, layout })
    const { path } = await run(megatronToHf({ checkpoint, like: model }), { store: join(dir, 'store') })
    await symlink(path, join(dir, 'back', `${name}-${layout}`))
  }
}
