import { join } from 'node:path'
import { diffPlans, plan } from 'ascendflow'
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
