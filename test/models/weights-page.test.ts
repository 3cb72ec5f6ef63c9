import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { families } from '../../src/models/families.ts'
import { models } from '../../src/models/supported-model.ts'

const page = readFileSync(new URL('../../docs/weights.md', import.meta.url), 'utf8')
const cells = page
  .split('\n')
  .filter(line => line.startsWith('| `'))
  .map(line => line.split('|').map(cell => cell.trim().replaceAll('`', '')))

test('the page on weights has the numbers of every model and names every family', () => {
  for (const { id, architecture: a, layout, recommendedLayouts } of models) {
    const sizes = recommendedLayouts.map(
      ({ tp, pp, nodes, devicesPerNode }) => `${tp} × ${pp} on ${nodes} × ${devicesPerNode}`,
    )
    const row = cells.find(row => row[1] === id)!
    expect(row.slice(3, -1)).toEqual([
      ...[a.family, `${a.numLayers}`, `${a.hiddenSize}`, `${a.ffnHiddenSize}`],
      ...[`${a.numAttentionHeads} / ${a.numQueryGroups}`, `${a.vocabSize}`, layout, [...new Set(sizes)].join(', ')],
    ])
  }
  const named = cells.map(row => row[1]).filter(name => !models.some(({ id }) => id === name))
  expect(named).toEqual(expect.arrayContaining(families.map(({ name }) => name)))
})
