import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { argumentRules } from '../../src/layout/argument-rules.ts'
import { buildingRules } from '../../src/layout/building-rules.ts'
import { checkLayout, isLegal, layoutViolations } from '../../src/layout/legality.ts'
import { modelLinkRules } from '../../src/layout/modellink-rules.ts'
import type { LayoutProposal } from '../../src/layout/proposal.ts'

const glm3 = { numLayers: 28, ffnHiddenSize: 13696, numAttentionHeads: 32, numQueryGroups: 2 }
const said = (proposal: LayoutProposal) =>
  layoutViolations(proposal).map(({ rule, explain }) => {
    const { message, hint } = explain()
    return [rule, ...[message, hint].filter(Boolean)].join(' | ')
  })

describe('layoutViolations', () => {
  it('finds nothing in a layout that the toolchain trains', () => {
    const proposal = { model: glm3, layout: { tp: 2, pp: 4, worldSize: 16 }, batch: { globalBatchSize: 128 } }
    expect(layoutViolations(proposal)).toEqual([])
    expect(isLegal(proposal)).toBe(true)
  })

  it('names each rule that is broken, with all factors and the nearest numbers that would do', () => {
    expect(said({ model: glm3, layout: { tp: 4, pp: 3, worldSize: 16 } })).toEqual([
      'world-by-replica | tp 4 × pp 3 × cp 1 = 12 does not divide 16 devices. | pp 2 or 4, or worldSize 12 or 24 would do.',
      "groups-by-tp | tp 4 does not divide the model's 2 query groups. | tp 2 would do.",
      "layers-by-pp | pp 3 does not divide the model's 28 layers. | pp 2 or 4 would do.",
    ])
  })
})

describe('checkLayout', () => {
  it('throws the first violation', () => {
    const proposal = { model: glm3, layout: { tp: 1, pp: 8 } }
    expect(isLegal(proposal)).toBe(false)
    expect(() => checkLayout(proposal)).toThrow(
      expect.objectContaining({
        code: 'invalid-layout',
        message: "pp 8 does not divide the model's 28 layers. pp 7 or 14 would do.",
      }),
    )
  })
})

describe('the rules', () => {
  it('stand in docs/layouts.md with their sources, in their order', () => {
    const page = readFileSync(new URL('../../docs/layouts.md', import.meta.url), 'utf8')
    const table = [...page.matchAll(/^\| `([a-z0-9-]+)` +\| .*? +\| `(.*?)` +\|$/gm)].map(([, ...row]) => row)
    const rules = [...argumentRules, ...modelLinkRules, ...buildingRules]
    expect(table).toEqual(rules.map(({ rule, source }) => [rule, source]))
  })
})
