import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type PackagedLaunch, packagedLaunch, packagedScriptPath } from '../../src/ascendspeed/packaged-scripts.ts'
import { resolveWords } from '../../src/flow/launch.ts'

const packaged: PackagedLaunch = {
  ...{ dir: '/pkg', model: 'llama2-13b', script: { part: 'pipeline', run: 'pretrain' } },
  ...{ variables: {}, nodes: 1, devicesPerNode: 8 },
}
const place = { rank: 1, count: 2, masterAddr: 'node-0', masterPort: 6000 }

describe('packagedScriptPath', () => {
  it.each<[Partial<PackagedLaunch>, string]>([
    // As the guide prints them.
    [{}, 'scripts/llama2/0_pl_pretrain_13b.sh'],
    [{ script: { part: 'pipeline', run: 'sft' } }, 'scripts/llama2/0_pl_sft_13b.sh'],
    [{ script: { part: 'pipeline', run: 'lora' } }, 'scripts/llama2/0_pl_lora_13b.sh'],
    [{ script: { part: 'preprocess' } }, 'scripts/llama2/1_preprocess_data.sh'],
    [{ script: { part: 'convert', direction: 'hf2hg' } }, 'scripts/llama2/2_convert_mg_hf.sh'],
    // By the same rule.
    [{ model: 'qwen1.5-32b' }, 'scripts/qwen1.5/0_pl_pretrain_32b.sh'],
    [{ model: 'qwen2-0.5b', folder: 'Qwen2' }, 'scripts/Qwen2/0_pl_pretrain_0.5b.sh'],
  ])('of %j is %s', (changes, path) => {
    expect(packagedScriptPath({ ...packaged, ...changes })).toBe(path)
  })

  it.each(['llama2', '../../bin/sh-13b', 'llama2-13b; rm'])('refuses the model %s', model => {
    expect(() => packagedScriptPath({ ...packaged, model })).toThrow(/expected a model's name as in the guide/)
  })
})

describe('packagedLaunch', () => {
  let dir = ''
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
    await mkdir(join(dir, 'scripts/llama2'), { recursive: true })
    await writeFile(join(dir, 'scripts/install.sh'), 'echo installed >> calls\nexit $INSTALL_STATUS\n')
    const names =
      'TP PP MBS LR ORIGINAL_HF_WEIGHT MODEL_SAVE_PATH CONVERT_MG2HF NNODES NODE_RANK MASTER_ADDR GPUS_PER_NODE'
    const show = names.split(' ').map(name => `printf '%s\\n' "${name}=\${${name}-unset}" >> calls`)
    for (const name of ['0_pl_pretrain_13b.sh', '2_convert_mg_hf.sh'])
      await writeFile(join(dir, 'scripts/llama2', name), ['printf "%s %s\\n" "$0" "$*" >> calls', ...show].join('\n'))
  })
  afterEach(() => rm(dir, { recursive: true, force: true }))

  const start = async (changes: Partial<PackagedLaunch>, installStatus = '0') => {
    const { argv } = packagedLaunch({ ...packaged, dir, ...changes })
    const [program, ...words] = resolveWords(argv, place, path => path.replace('/here/', '/there/'))
    await promisify(execFile)(program!, words, { env: { PATH: process.env.PATH, INSTALL_STATUS: installStatus } })
    return (await readFile(join(dir, 'calls'), 'utf8')).trimEnd().split('\n')
  }

  it('installs, then runs the script with its variables, paths as the node sees them', async () => {
    const variables = {
      ...{ TP: 8, PP: 1, LR: 2.5e-5, CONVERT_MG2HF: true },
      ...{ ORIGINAL_HF_WEIGHT: '/here/a "b" $(touch c) `d`\ne', MODEL_SAVE_PATH: '/here/--' },
    }
    expect(await start({ variables })).toEqual([
      ...['installed', './scripts/llama2/0_pl_pretrain_13b.sh ', 'TP=8', 'PP=1', 'MBS=unset', 'LR=0.000025'],
      ...['ORIGINAL_HF_WEIGHT=/there/a "b" $(touch c) `d`', 'e', 'MODEL_SAVE_PATH=/there/--', 'CONVERT_MG2HF=TRUE'],
      ...['NNODES=2', 'NODE_RANK=1', 'MASTER_ADDR=node-0', 'GPUS_PER_NODE=8'],
    ])
  })

  it('never sets CONVERT_MG2HF to anything but TRUE, and passes the direction on', async () => {
    const calls = await start({
      ...{ script: { part: 'convert', direction: 'mg2hf' }, variables: { CONVERT_MG2HF: false }, install: false },
    })
    expect(calls[0]).toBe('./scripts/llama2/2_convert_mg_hf.sh mg2hf')
    expect(calls).toContain('CONVERT_MG2HF=unset')
  })

  it('runs nothing after an installation that failed', async () => {
    await expect(start({}, '3')).rejects.toMatchObject({ code: 3 })
    expect(await readFile(join(dir, 'calls'), 'utf8')).toBe('installed\n')
  })

  it('refuses a negative number', () => {
    expect(() => packagedLaunch({ ...packaged, variables: { TP: -1 } })).toThrow(/TP -1: expected a number from 0/)
  })
})
