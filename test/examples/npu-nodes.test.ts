import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeToolchainDouble } from 'ascendflow/testing'
import { expect, it, vi } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

it('the pipeline on NPU nodes does all four steps with the toolchain', { timeout: 180_000 }, async () => {
  const dir = await newFolder()
  await makeModel(join(dir, 'model'))
  const rows = (await readFile('examples/quickstart/instructions.jsonl', 'utf8')).split('\n').slice(0, 32)
  await writeFile(join(dir, 'text.jsonl'), rows.join('\n'))
  const double = await makeToolchainDouble(join(dir, 'toolchain'), { generation: 'modellink-1.1' })
  const given = { TOOLCHAIN: join(dir, 'toolchain'), MODEL: join(dir, 'model'), TEXT: join(dir, 'text.jsonl') }
  const env = { ...given, STORE: join(dir, 'store'), ...double.env(process.env.PATH) }
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  const print = vi.spyOn(console, 'log').mockImplementation(() => {})
  vi.spyOn(process.stderr, 'write').mockImplementation(() => true)
  await import('../../examples/02-npu-nodes.ts')
  const lines = print.mock.calls.flat().map(String)
  expect(lines[0]).toMatch(/^preprocess\s+ready\s+\w+\s+local/)
  expect(lines.at(-1)).toMatch(/^iteration 2, loss \d+\.\d+, model .*\/hf$/)
  expect((await double.runs()).map(({ program }) => program).sort()).toEqual([
    'convert',
    'convert',
    'preprocess',
    'train',
  ])
})
