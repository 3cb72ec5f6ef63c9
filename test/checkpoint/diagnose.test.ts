import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { diagnose, repair } from '../../src/checkpoint/diagnose.ts'
import { manifestName } from '../../src/checkpoint/manifest.ts'
import type { ParallelSizes } from '../../src/checkpoint/stage-weights.ts'
import { verify } from '../../src/checkpoint/verify.ts'
import { writeHfModel } from '../../src/checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { FormatError, InputError } from '../../src/errors.ts'
import { llama, memorySource, qwen2, temporaryFolder, tinyWeights, writeHfFolder } from './fixtures/tiny-model.ts'

const golden = fileURLToPath(new URL('golden/legacy-tp2-pp2', import.meta.url))
const trackerOf = (dir: string): string => join(dir, 'latest_checkpointed_iteration.txt')
const shardOf = (dir: string, iteration: number, rank = 'mp_rank_01_000'): string =>
  join(dir, `iter_${String(iteration).padStart(7, '0')}`, rank, 'model_optim_rng.pt')

async function checkpoint(...iterations: number[]): Promise<string> {
  const dir = await temporaryFolder()
  const source = memorySource(tinyWeights(llama))
  const facts = { source, architecture: llama, layout: 'legacy', parallel: { tp: 2, pp: 2 } } as const
  for (const iteration of iterations) await writeMegatronCheckpoint(dir, { ...facts, iteration })
  return dir
}

test('a sound checkpoint has no findings, and its newest complete iteration is told', async () => {
  const found = await diagnose(await checkpoint(1, 200))
  expect(found).toMatchObject({ kind: 'megatron', findings: [], newestComplete: 200, tracker: 200 })
  expect(String(await diagnose(golden))).toBe(`✓ ${golden}: nothing is wrong`)
})

describe('no alarm for what a conversion wrote', () => {
  const layouts: readonly ParallelSizes[] = [
    ...[
      { tp: 1, pp: 1 },
      { tp: 4, pp: 1 },
      { tp: 2, pp: 4 },
    ],
    { tp: 2, pp: 2, layersPerStage: [1, 3] },
    { tp: 1, pp: 2, layersPerVirtualStage: 1 },
  ]
  const models = { llama, qwen2, tied: { ...qwen2, tiedEmbeddings: true } }
  test.each(Object.entries(models))('%s, every layout, legacy and mcore, and back', async (_, architecture) => {
    const dir = await temporaryFolder()
    const weights = tinyWeights(architecture)
    await writeHfFolder(join(dir, 'hf'), architecture, weights)
    await writeHfModel(join(dir, 'back'), { source: memorySource(weights), architecture, like: join(dir, 'hf') })
    for (const hf of [join(dir, 'hf'), join(dir, 'back')]) expect((await diagnose(hf)).findings).toEqual([])
    expect(await verify({ hf: join(dir, 'back') })).toMatchObject({ equal: true, tensors: weights.size })
    for (const [i, parallel] of layouts.entries()) {
      for (const layout of ['legacy', 'mcore'] as const) {
        const megatron = join(dir, `${layout}${i}`)
        const source = memorySource(weights)
        await writeMegatronCheckpoint(megatron, { source, architecture, parallel, layout, iteration: 1 })
        expect((await diagnose(megatron)).findings).toEqual([])
        expect((await verify({ hf: join(dir, 'hf'), megatron })).differences).toEqual([])
      }
    }
  })

  test('weights of two types, as the model has them', async () => {
    const dir = await temporaryFolder()
    const norms = tinyWeights(llama, 'F32')
    const weights = new Map(
      [...tinyWeights(llama)].map(([name, it]) => [name, /norm/.test(name) ? norms.get(name)! : it]),
    )
    const facts = { architecture: llama, layout: 'legacy', iteration: 1 } as const
    await writeMegatronCheckpoint(dir, { source: memorySource(weights), ...facts, parallel: { tp: 2, pp: 1 } })
    expect((await diagnose(dir)).findings).toEqual([])
    await rm(join(dir, 'iter_0000001', manifestName))
    expect((await diagnose(dir)).findings).toMatchObject([{ code: 'dtype-mixed', severity: 'warning' }])
  })
})

const cases: readonly [string, (dir: string) => Promise<unknown>, object[]][] = [
  ['no tracker', dir => rm(trackerOf(dir)), [{ code: 'tracker-missing', severity: 'error', newestComplete: 2 }]],
  [
    'a garbled tracker',
    dir => writeFile(trackerOf(dir), 'iter 2'),
    [{ code: 'tracker-garbled', found: '"iter 2"', newestComplete: 2 }],
  ],
  [
    'a tracker ahead of the data',
    dir => writeFile(trackerOf(dir), '300'),
    [{ code: 'tracker-ahead', iteration: 300, newestComplete: 2 }],
  ],
  [
    'a newest iteration that is cut short',
    dir => truncate(shardOf(dir, 2), 5000),
    [
      { code: 'tracker-ahead', iteration: 2, newestComplete: 1 },
      { code: 'file-damaged', path: expect.stringContaining('mp_rank_01_000'), severity: 'error' },
      { code: 'manifest-differs', found: '5000' },
    ],
  ],
  [
    'a stale tracker',
    dir => writeFile(trackerOf(dir), '1'),
    [{ code: 'tracker-behind', severity: 'warning', iteration: 1, newestComplete: 2 }],
  ],
  [
    'a missing rank',
    dir => rm(join(shardOf(dir, 2), '..'), { recursive: true }),
    [
      { code: 'tracker-ahead', newestComplete: 1 },
      { code: 'rank-missing', tp: 1, stage: 0, found: 'no folder', expected: 'a file for each of tp 2 x pp 2 ranks' },
      { code: 'manifest-differs' },
    ],
  ],
  [
    'an interrupted save that no tracker names',
    async dir => {
      await mkdir(join(dir, 'iter_0000003', 'mp_rank_00_000'), { recursive: true })
      await cp(shardOf(dir, 2, 'mp_rank_00_000'), shardOf(dir, 3, 'mp_rank_00_000'))
    },
    [{ severity: 'warning', code: 'rank-missing' }],
  ],
]

test.each(cases)('%s is found, with a code, numbers and advice', async (_, edit, expected) => {
  const dir = await checkpoint(1, 2)
  await edit(dir)
  const { findings } = await diagnose(dir)
  for (const [i, it] of expected.entries()) expect(findings[i]).toMatchObject(it)
  for (const finding of findings) expect(finding.advice.length).toBeGreaterThan(10)
})

test.each([
  ['missing', (dir: string) => rm(trackerOf(dir)), undefined],
  ['garbled', (dir: string) => writeFile(trackerOf(dir), '???'), '???'],
  ['ahead', (dir: string) => writeFile(trackerOf(dir), '300'), '300'],
])(
  'a tracker that is %s is set to the newest complete iteration, and nothing else is touched',
  async (_, edit, before) => {
    const dir = await checkpoint(1, 2)
    await edit(dir)
    const names = (await readdir(dir)).filter(name => name.startsWith('iter'))
    const { done, diagnosis } = await repair(dir)
    expect(done).toEqual([{ path: trackerOf(dir), ...(before === undefined ? {} : { before }), after: '2' }])
    expect(diagnosis.findings).toEqual([])
    expect(await readFile(trackerOf(dir), 'latin1')).toBe('2')
    expect((await readdir(dir)).sort()).toEqual([...names, 'latest_checkpointed_iteration.txt'])
  },
)

test('a repair does nothing to a sound checkpoint, nor to a tracker that may be meant so', async () => {
  const dir = await checkpoint(1, 2)
  expect((await repair(dir)).done).toEqual([])
  await writeFile(trackerOf(dir), '1')
  expect((await repair(dir)).done).toEqual([])
  expect((await repair(dir, { iteration: 2 })).done).toMatchObject([{ before: '1', after: '2' }])
})

test('an iteration that is not complete is never set, and without any the repair refuses', async () => {
  const dir = await checkpoint(1, 2)
  await truncate(shardOf(dir, 2), 100)
  await expect(repair(dir, { iteration: 2 })).rejects.toThrow(/Iteration 2 of .* is not complete: ✗ .*mp_rank_01_000/)
  await expect(repair(dir, { iteration: 7 })).rejects.toThrow('there is no such folder')
  await rm(join(dir, 'iter_0000001'), { recursive: true })
  const refused = repair(dir)
  await expect(refused).rejects.toThrow(InputError)
  await expect(refused).rejects.toThrow('has no complete iteration')
})

test('a rank folder with huge numbers does not make endless findings', async () => {
  const dir = await checkpoint(1)
  await mkdir(join(dir, 'iter_0000001', 'mp_rank_9999_9999'))
  expect((await diagnose(dir)).findings.length).toBeLessThan(200)
})

test('a folder that is no checkpoint is refused', async () => {
  const dir = await temporaryFolder()
  await expect(diagnose(dir)).rejects.toThrow(FormatError)
  await expect(diagnose(join(dir, 'none'))).rejects.toThrow('found no folder')
})
