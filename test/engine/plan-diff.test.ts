import { join } from 'node:path'
import { diffPlans, plan, run } from 'ascendflow'
import { expect, it } from 'vitest'
import { job, newFolder, write } from './steps.ts'

it('says which calls two plans add, leave out and change, and in which field', async () => {
  const store = join(await newFolder(), 'store')
  const before = await plan({ w: write({ content: 'a' }), j: job({ n: 1 }) }, { store })
  const after = await plan({ w: write({ content: 'b' }), x: write({ content: 'a' }, { name: 'x' }) }, { store })
  const diff = diffPlans(before, after)
  expect(diff).toMatchObject({ added: ['x'], removed: ['job'] })
  expect(diff.changed).toEqual([{ name: 'write', differences: ['content a → b'] }])
  expect(String(diff)).toBe('+ x\n- job\n~ write  content a → b')
  expect(String(diffPlans(JSON.parse(JSON.stringify(before)), before))).toBe('no difference')
})

it('says what changed since the last good run that has calls of the same names', async () => {
  const store = join(await newFolder(), 'store')
  await run(write({ content: 'a' }), { store })
  await run(write({ content: 'other' }, { name: 'another-pipeline' }), { store })
  expect(String(await plan(write({ content: 'a' }), { store }))).not.toContain('last good run')
  const changed = await plan({ w: write({ content: 'b' }), x: write({ content: 'c' }, { name: 'x' }) }, { store })
  expect(changed.sinceLastGoodRun?.diff).toMatchObject({
    ...{ added: ['x'], removed: [] },
    changed: [{ name: 'write', differences: ['content a → b'] }],
  })
  expect(String(changed)).toMatch(/\nsince the last good run, .*\n {2}\+ x\n {2}~ write {2}content a → b$/)
})
