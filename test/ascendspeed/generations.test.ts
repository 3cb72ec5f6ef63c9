import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { detectGeneration } from '../../src/ascendspeed/generations.ts'
import { ascendSpeed, Toolchain } from '../../src/ascendspeed/toolchain.ts'

/** Entry points of each tree as `git ls-tree` shows them at the commits that the generations are read from. */
const trees = {
  'modellink-1.0': ['pretrain_gpt.py', 'tools/preprocess_data.py', 'tools/checkpoint/util.py'],
  'modellink-1.1': ['pretrain_gpt.py', 'tools/preprocess_data.py', 'tools/checkpoint/convert_ckpt.py'],
  'modellink-rc3': ['pretrain_gpt.py', 'preprocess_data.py', 'convert_ckpt.py', 'modellink/__init__.py'],
  'mindspeed-llm': [
    ...['pretrain_gpt.py', 'posttrain_gpt.py', 'preprocess_data.py', 'convert_ckpt.py', 'mindspeed_llm/__init__.py'],
  ],
}

describe('detectGeneration', () => {
  let dir = ''
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  })
  afterEach(() => rm(dir, { recursive: true, force: true }))

  const tree = async (paths: readonly string[]) => {
    for (const path of paths) {
      await mkdir(dirname(join(dir, path)), { recursive: true })
      await writeFile(join(dir, path), '')
    }
  }

  it.each(Object.entries(trees))('knows %s by its files', async (generation, paths) => {
    await tree(paths)
    expect(detectGeneration(dir)).toBe(generation)
  })

  it('takes the newer generation where markers of two are there', async () => {
    await tree([...trees['modellink-1.0'], ...trees['modellink-1.1']])
    expect(detectGeneration(dir)).toBe('modellink-1.1')
  })

  it.each([
    [['README.md'], /is no checkout of the toolchain: it has none of tools\/checkpoint\/util\.py/],
    [['convert_ckpt.py', 'preprocess_data.py'], /looks like ModelLink 1\.0\.RC3 but has no pretrain_gpt\.py/],
    [['tools/ckpt_convert/llama/convert_weights_from_huggingface.py', 'pretrain_llama.py'], /is AscendSpeed of 2023/],
    [['mindspeed_llm/__init__.py', 'convert_ckpt_v2.py', 'pretrain_gpt.py'], /is a MindSpeed-LLM without convert_ckpt/],
  ])('refuses %j', async (paths, message) => {
    await tree(paths)
    expect(() => detectGeneration(dir)).toThrow(message)
  })

  it('is what ascendSpeed looks for where no generation is given', async () => {
    await tree(trees['modellink-1.1'])
    expect(ascendSpeed({ dir })).toEqual({ generation: 'modellink-1.1', dir })
    expect(ascendSpeed({ dir: '/on/the/nodes', generation: 'mindspeed-llm' }).generation).toBe('mindspeed-llm')
    expect(() => ascendSpeed({ dir: '' })).toThrow(/The toolchain's folder is empty/)
    expect(Toolchain.safeParse({ dir, generation: 'modellink-2.0' }).success).toBe(false)
  })
})
