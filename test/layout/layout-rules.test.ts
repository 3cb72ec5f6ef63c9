import { layoutViolations } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { argumentRules } from '../../src/layout/argument-rules.ts'
import { buildingRules } from '../../src/layout/building-rules.ts'
import { modelLinkRules } from '../../src/layout/modellink-rules.ts'
import type { LayoutProposal } from '../../src/layout/proposal.ts'
import { seededRandom } from './seeded-random.ts'

const llama = {
  ...{ numLayers: 32, hiddenSize: 4096, ffnHiddenSize: 11008, numAttentionHeads: 32, numQueryGroups: 32 },
  ...{ kvChannels: 128, maxPositionEmbeddings: 4096 },
}
const recompute = { recomputeGranularity: 'full', recomputeMethod: 'block', recomputeNumLayers: 1 } as const

/** One replica of llama2-7b at tp 4 · pp 4, which breaks nothing, with something changed. */
function changed(change: {
  readonly model?: object
  readonly layout?: object
  readonly batch?: object
  readonly flags?: object
}): LayoutProposal {
  return {
    model: { ...llama, ...change.model },
    layout: { tp: 4, pp: 4, ...change.layout },
    batch: { microBatchSize: 1, globalBatchSize: 64, seqLength: 4096, ...change.batch },
    flags: { bf16: true, ...change.flags },
  }
}

// By the conditions of the sources that docs/layouts.md names.
const cases: readonly (readonly [string, Parameters<typeof changed>[0], string])[] = [
  ['whole-numbers', { layout: { pp: 0 } }, 'pp 0 is not a positive integer.'],
  [
    'world-by-replica',
    { layout: { worldSize: 24 } },
    'tp 4 × pp 4 × cp 1 = 16 does not divide 24 devices. worldSize 16 or 32 would do.',
  ],
  [
    'virtual-stages-need-pp',
    { layout: { pp: 2, layersPerVirtualStage: 4 } },
    'virtual stages of 4 layers need more than 2 stages, pp is 2. pp 4 would do. Or leave layersPerVirtualStage out.',
  ],
  [
    'layers-by-pp',
    { layout: { pp: 5, layersPerVirtualStage: 2 } },
    "pp 5 does not divide the model's 32 layers. pp 4 or 8 would do.",
  ],
  [
    'layers-by-virtual-stages',
    { layout: { layersPerVirtualStage: 3 } },
    '3 layers per virtual stage do not divide the 8 layers of each of pp 4 stages. layersPerVirtualStage 2 or 4 would do.',
  ],
  [
    'param-gather-needs-distributed-optimizer',
    { flags: { overlapParamGather: true, overlapGradReduce: true, useMcoreModels: true } },
    'overlapParamGather works with the distributed optimizer only. Set useDistributedOptimizer, or leave overlapParamGather out.',
  ],
  [
    'param-gather-needs-grad-reduce',
    { flags: { overlapParamGather: true, useDistributedOptimizer: true, useMcoreModels: true } },
    'overlapParamGather works with overlapGradReduce only. Set overlapGradReduce, or leave overlapParamGather out.',
  ],
  [
    'param-gather-needs-mcore',
    { flags: { overlapParamGather: true, useDistributedOptimizer: true, overlapGradReduce: true } },
    "overlapParamGather works with Megatron core's models only, not with legacy ones. Set useMcoreModels, or leave overlapParamGather out.",
  ],
  ['one-precision', { flags: { fp16: true } }, 'fp16 and bf16 exclude each other. Give one of them.'],
  [
    'one-warm-up',
    { flags: { lrWarmupFraction: 0.01, lrWarmupIters: 5 } },
    'lrWarmupFraction 0.01 and lrWarmupIters 5 exclude each other. Give one of them.',
  ],
  [
    'hidden-by-heads',
    { model: { kvChannels: undefined, hiddenSize: 4100 } },
    "the model's 32 attention heads do not divide its hidden size 4100, and kvChannels is not given.",
  ],
  [
    'positions',
    { batch: { seqLength: 8192 } },
    "seqLength 8192 is more than the model's 4096 positions. seqLength 4096 would do.",
  ],
  [
    'min-lr',
    { flags: { lr: 1e-6, minLr: 1e-5 } },
    'minLr 0.00001 is more than lr 0.000001. Choose a minLr of at most lr.',
  ],
  [
    'saved-activations-need-tp',
    { layout: { tp: 1 }, flags: { ...recompute, distributeSavedActivations: true } },
    'distributeSavedActivations shares them among tp 1 devices. tp 2 would do. Or leave distributeSavedActivations out.',
  ],
  [
    'saved-activations-need-full-recompute',
    { flags: { distributeSavedActivations: true } },
    'distributeSavedActivations needs recomputeGranularity full with a recomputeMethod, not none with none. Give both, or leave distributeSavedActivations out.',
  ],
  [
    'selective-has-no-method',
    { flags: { recomputeGranularity: 'selective', recomputeMethod: 'block' } },
    'recomputeMethod block goes with recomputeGranularity full, not selective. Leave recomputeMethod out.',
  ],
  [
    'context-parallel-needs-mcore',
    { layout: { cp: 2 } },
    "cp 2 works with Megatron core's models only, not with legacy ones. cp 1 would do. Or set useMcoreModels.",
  ],
  [
    'ulysses-degree',
    { layout: { cp: 4 }, flags: { useMcoreModels: true, contextParallelAlgo: 'hybrid' } },
    'hybrid context parallelism needs a ulyssesDegreeInCp that divides cp 4 and is less, not none. cp 1 would do.',
  ],
  [
    'sequence-by-cp',
    { layout: { cp: 2 }, batch: { seqLength: 4094 }, flags: { useMcoreModels: true, contextParallelAlgo: 'megatron' } },
    'seqLength 4094 is not divisible by 4, as megatron context parallelism at cp 2 asks. seqLength 4092 or 4096, or cp 1 or 23 would do.',
  ],
  [
    'heads-by-ulysses',
    { layout: { cp: 16 }, flags: { useMcoreModels: true } },
    "ulysses 16 × tp 4 = 64 does not divide the model's 32 attention heads. cp 8, or tp 2 would do.",
  ],
  [
    'groups-by-tp',
    { layout: { cp: 2 }, model: { numQueryGroups: 2 }, flags: { useMcoreModels: true } },
    "tp 4 does not divide the model's 2 query groups. tp 2 would do.",
  ],
  [
    'context-parallel-without-window',
    { layout: { cp: 2 }, model: { slidingWindow: 4096 }, flags: { useMcoreModels: true } },
    "cp 2 does not work with the model's attention window of 4096 tokens. cp 1 would do.",
  ],
  [
    'recompute-layers-per-pp-rank',
    { flags: { ...recompute, enableRecomputeLayersPerPpRank: true } },
    'enableRecomputeLayersPerPpRank needs virtual stages and one of recomputeMethod block, swapAttention, recomputeActivationFunction. Give those, or leave it out.',
  ],
  [
    'activation-function-not-uniform',
    { flags: { ...recompute, recomputeMethod: 'uniform', recomputeActivationFunction: true } },
    'recomputeActivationFunction and recomputeMethod uniform exclude each other. Use recomputeMethod block, or leave one out.',
  ],
  [
    'activation-function-not-selective',
    { flags: { recomputeGranularity: 'selective', recomputeActivationFunction: true } },
    'recomputeActivationFunction and recomputeGranularity selective exclude each other. Use recomputeGranularity full, or leave one out.',
  ],
  [
    'variable-lengths-without-cp',
    { layout: { cp: 2 }, flags: { useMcoreModels: true, variableSeqLengths: true } },
    'variableSeqLengths does not work with cp 2. cp 1 would do. Or leave variableSeqLengths out.',
  ],
  [
    'glm-rope-not-fused',
    { model: { rotaryPercent: 0.5 }, flags: { useFusedRotaryPosEmb: true } },
    "useFusedRotaryPosEmb turns whole heads, the model turns a share of 0.5 (GLM's RoPE). Leave useFusedRotaryPosEmb out.",
  ],
  [
    'alibi-without-window',
    { model: { alibi: true, slidingWindow: 4096 } },
    'ALiBi and an attention window of 4096 tokens exclude each other.',
  ],
  [
    'alibi-pads-right',
    { model: { alibi: true }, flags: { tokenizerPaddingSide: 'left' } },
    'ALiBi does not work with tokenizerPaddingSide left. Pad on the right.',
  ],
  [
    'stages-by-list',
    { layout: { layersPerStage: [10, 10, 12] } },
    'layersPerStage [10,10,12] must be a number from 1 for each of pp 4 stages, two or more; they are 3.',
  ],
  [
    'list-without-virtual-stages',
    { layout: { layersPerStage: [8, 8, 8, 8], layersPerVirtualStage: 4 } },
    'layersPerStage and layersPerVirtualStage exclude each other. Give one of them.',
  ],
  [
    'output-slices',
    { flags: { outputLayerSliceNum: 2, paddedVocabSize: 32000 } },
    'outputLayerSliceNum 2 needs tp 1 and a paddedVocabSize that it divides; tp is 4, paddedVocabSize 32000. tp 1 would do. Or leave outputLayerSliceNum out.',
  ],
  [
    'reused-param-needs-bf16',
    { flags: { bf16: false, reuseFp32Param: true } },
    'reuseFp32Param works with bf16 only. Set bf16, or leave reuseFp32Param out.',
  ],
  [
    'batch-by-replicas',
    { layout: { worldSize: 80 }, batch: { microBatchSize: 2 } },
    'globalBatchSize 64 is not divisible by microBatchSize 2 × dp 5 = 10. globalBatchSize 60 or 70 would do.',
  ],
  [
    'heads-by-tp',
    { layout: { tp: 5 }, model: { ffnHiddenSize: 11000 } },
    "tp 5 does not divide the model's 32 attention heads. tp 4 or 8 would do.",
  ],
  ['groups-by-tp', { model: { numQueryGroups: 2 } }, "tp 4 does not divide the model's 2 query groups. tp 2 would do."],
  [
    'full-recompute-has-method',
    { flags: { recomputeGranularity: 'full', recomputeNumLayers: 1 } },
    'recomputeGranularity full needs a recomputeMethod. Give uniform or block.',
  ],
  [
    'full-recompute-has-layers',
    { flags: { recomputeGranularity: 'full', recomputeMethod: 'block' } },
    'recomputeGranularity full needs recomputeNumLayers. Give from 1 to the layers of one stage.',
  ],
  [
    'selective-has-no-layers',
    { flags: { recomputeGranularity: 'selective', recomputeNumLayers: 1 } },
    'recomputeNumLayers 1 goes with recomputeGranularity full, not selective. Leave recomputeNumLayers out.',
  ],
  [
    'saved-activations-not-with-sequence-parallel',
    { flags: { ...recompute, distributeSavedActivations: true, sequenceParallel: true } },
    'distributeSavedActivations and sequenceParallel exclude each other. Leave distributeSavedActivations out: sequence parallelism distributes them already.',
  ],
  [
    'layers-by-list',
    { layout: { layersPerStage: [8, 8, 8, 7] } },
    'layersPerStage [8,8,8,7] adds up to 31, the model has 32 layers.',
  ],
  [
    'vocab-by-tp',
    { flags: { paddedVocabSize: 32002 } },
    'tp 4 does not divide paddedVocabSize 32002. tp 2 would do. Or pad the vocabulary to a multiple of tp.',
  ],
  ['layers-by-pp', { layout: { pp: 3 } }, "pp 3 does not divide the model's 32 layers. pp 2 or 4 would do."],
  [
    'ffn-by-tp',
    { model: { ffnHiddenSize: 11002 } },
    "tp 4 does not divide the model's 11002 ffn hidden size. tp 2 would do.",
  ],
  ['iterations', { flags: { trainIters: 0 } }, 'trainIters 0 trains nothing. Give at least 1.'],
  [
    'warm-up-before-decay',
    { flags: { trainIters: 20, lrWarmupIters: 20 } },
    'the warm-up of 20 iterations does not end before the decay of 20. Choose a shorter warm-up.',
  ],
  [
    'microbatches-by-pp',
    { layout: { layersPerVirtualStage: 4 }, batch: { microBatchSize: 2, globalBatchSize: 60 } },
    'globalBatchSize 60 / (microBatchSize 2 × dp 1) = 30 micro batches, which pp 4 does not divide, as virtual stages ask. globalBatchSize 56 or 64, or microBatchSize 1 or 3 would do. Or leave layersPerVirtualStage out.',
  ],
  [
    'sequence-by-tp',
    { batch: { seqLength: 4094 }, flags: { sequenceParallel: true } },
    'sequenceParallel cuts seqLength 4094 by tp 4 × cp 1 = 4, which does not divide it. seqLength 4092 or 4096 would do. Or leave sequenceParallel out.',
  ],
]

describe('layoutViolations', () => {
  it('finds nothing wrong with the training that the cases below change', () => {
    expect(layoutViolations(changed({}))).toEqual([])
  })

  it.each(cases)('names %s in %j', (rule, change, text) => {
    const [first] = layoutViolations(changed(change))
    const { message, hint } = first!.explain()
    expect([first!.rule, [message, hint].filter(Boolean).join(' ')]).toEqual([rule, text])
  })

  it('has a case for every rule', () => {
    const rules = [...argumentRules, ...modelLinkRules, ...buildingRules].map(({ rule }) => rule)
    expect(new Set(cases.map(([rule]) => rule))).toEqual(new Set(rules))
  })

  it('accepts sequence parallelism at tp 1, which Megatron switches off', () => {
    const proposal = changed({ layout: { tp: 1 }, batch: { seqLength: 4095 }, flags: { sequenceParallel: true } })
    expect(layoutViolations(proposal)).toEqual([])
  })

  it('accepts copies of query groups where they are stored', () => {
    const flags = { replicateQueryGroups: true }
    expect(layoutViolations(changed({ model: { numQueryGroups: 2 }, flags }))).toEqual([])
    expect(layoutViolations(changed({ layout: { tp: 8 }, model: { numQueryGroups: 3 }, flags }))).toHaveLength(1)
  })

  it('names numbers that do: with each of them the rule holds', () => {
    const { whole } = seededRandom(8)
    for (let checked = 0; checked < 300; ) {
      const layout = { tp: whole(1, 9), pp: whole(1, 9), worldSize: 8 * whole(1, 16) }
      const proposal = changed({ layout, batch: { microBatchSize: whole(1, 4), globalBatchSize: whole(1, 128) } })
      for (const { rule, explain } of layoutViolations(proposal)) {
        for (const [, name, ...values] of (explain().hint ?? '').matchAll(
          /(\w+) (\d+)(?: or (\d+))?(?=,| would do)/g,
        )) {
          for (const value of values.filter(Boolean).map(Number)) {
            const part = name!.endsWith('BatchSize') ? 'batch' : 'layout'
            const other = { ...proposal, [part]: { ...proposal[part], [name!]: value } }
            expect(layoutViolations(other).map(found => found.rule)).not.toContain(rule)
            checked++
          }
        }
      }
    }
  })
})
