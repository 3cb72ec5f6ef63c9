import { divides, type LayoutRule, replicaSize } from './layout-rule.ts'
import type { LayoutProposal } from './proposal.ts'

const source = 'Megatron-LM core_r0.6.0, megatron/training/arguments.py'

/** What Megatron's `validate_args` refuses, in its order. */
export const argumentRules = [
  {
    rule: 'whole-numbers',
    source: `${source}:232-239`,
    holds: proposal => notCounting(proposal) === undefined,
    message: proposal => `${notCounting(proposal)?.join(' ')} is not a positive integer.`,
  },
  {
    // Megatron itself makes tp and pp smaller where the devices are too few, without a word; the weights then do not fit.
    rule: 'world-by-replica',
    source: `${source}:150-175`,
    holds: proposal => divides(replicaSize(proposal), proposal.layout.worldSize),
    message: proposal => {
      const { tp, pp, cp = 1, worldSize } = proposal.layout
      return `tp ${tp} × pp ${pp} × cp ${cp} = ${replicaSize(proposal)} does not divide ${worldSize} devices.`
    },
    turn: [{ name: 'pp' }, { name: 'tp' }, { name: 'worldSize', unit: replicaSize }],
  },
  {
    rule: 'virtual-stages-need-pp',
    source: `${source}:240-243`,
    holds: ({ layout }) => layout.layersPerVirtualStage === undefined || layout.pp > 2,
    message: ({ layout }) =>
      `virtual stages of ${layout.layersPerVirtualStage} layers need more than 2 stages, pp is ${layout.pp}.`,
    turn: [{ name: 'pp' }],
    instead: 'Or leave layersPerVirtualStage out.',
  },
  {
    rule: 'layers-by-pp',
    source: `${source}:244-245`,
    holds: ({ model, layout }) => layout.layersPerVirtualStage === undefined || divides(layout.pp, model?.numLayers),
    message: ({ model, layout }) => `pp ${layout.pp} does not divide the model's ${model?.numLayers} layers.`,
    turn: [{ name: 'pp' }],
  },
  {
    rule: 'layers-by-virtual-stages',
    source: `${source}:246-248`,
    holds: ({ model, layout: { pp, layersPerVirtualStage } }) =>
      layersPerVirtualStage === undefined ||
      model?.numLayers === undefined ||
      divides(layersPerVirtualStage, Math.floor(model.numLayers / pp)),
    message: ({ model, layout: { pp, layersPerVirtualStage } }) =>
      `${layersPerVirtualStage} layers per virtual stage do not divide the ${Math.floor((model?.numLayers ?? 0) / pp)} layers of each of pp ${pp} stages.`,
    turn: [{ name: 'layersPerVirtualStage' }, { name: 'pp' }],
  },
  {
    rule: 'param-gather-needs-distributed-optimizer',
    source: `${source}:259-261`,
    holds: ({ flags }) => !flags?.overlapParamGather || flags.useDistributedOptimizer === true,
    message: () => 'overlapParamGather works with the distributed optimizer only.',
    instead: 'Set useDistributedOptimizer, or leave overlapParamGather out.',
  },
  {
    rule: 'param-gather-needs-grad-reduce',
    source: `${source}:262-263`,
    holds: ({ flags }) => !flags?.overlapParamGather || flags.overlapGradReduce === true,
    message: () => 'overlapParamGather works with overlapGradReduce only.',
    instead: 'Set overlapGradReduce, or leave overlapParamGather out.',
  },
  {
    rule: 'param-gather-needs-mcore',
    source: `${source}:264-265`,
    holds: ({ flags }) => !flags?.overlapParamGather || flags.useMcoreModels === true,
    message: () => "overlapParamGather works with Megatron core's models only, not with legacy ones.",
    instead: 'Set useMcoreModels, or leave overlapParamGather out.',
  },
  {
    rule: 'one-precision',
    source: `${source}:269-280`,
    holds: ({ flags }) => !(flags?.fp16 && flags.bf16),
    message: () => 'fp16 and bf16 exclude each other.',
    instead: 'Give one of them.',
  },
  {
    rule: 'one-warm-up',
    source: `${source}:320-322`,
    holds: ({ flags }) => flags?.trainIters === 0 || flags?.lrWarmupFraction === undefined || !flags.lrWarmupIters,
    message: ({ flags }) =>
      `lrWarmupFraction ${flags?.lrWarmupFraction} and lrWarmupIters ${flags?.lrWarmupIters} exclude each other.`,
    instead: 'Give one of them.',
  },
  {
    rule: 'hidden-by-heads',
    source: `${source}:366-368`,
    holds: ({ model: { hiddenSize, numAttentionHeads, kvChannels } = {} }) =>
      kvChannels !== undefined || numAttentionHeads === undefined || divides(numAttentionHeads, hiddenSize),
    message: ({ model }) =>
      `the model's ${model?.numAttentionHeads} attention heads do not divide its hidden size ${model?.hiddenSize}, and kvChannels is not given.`,
  },
  {
    rule: 'positions',
    source: `${source}:377-378`,
    holds: ({ model, batch }) =>
      batch?.seqLength === undefined ||
      model?.maxPositionEmbeddings === undefined ||
      batch.seqLength <= model.maxPositionEmbeddings,
    message: ({ model, batch }) =>
      `seqLength ${batch?.seqLength} is more than the model's ${model?.maxPositionEmbeddings} positions.`,
    turn: [{ name: 'seqLength', unit: ({ model }) => model?.maxPositionEmbeddings }],
  },
  {
    rule: 'min-lr',
    source: `${source}:381-382`,
    holds: ({ flags }) => flags?.lr === undefined || flags.minLr === undefined || flags.minLr <= flags.lr,
    message: ({ flags }) => `minLr ${flags?.minLr} is more than lr ${flags?.lr}.`,
    instead: 'Choose a minLr of at most lr.',
  },
  {
    rule: 'saved-activations-need-tp',
    source: `${source}:417-420`,
    holds: ({ layout, flags }) => !flags?.distributeSavedActivations || layout.tp > 1,
    message: ({ layout }) => `distributeSavedActivations shares them among tp ${layout.tp} devices.`,
    turn: [{ name: 'tp' }],
    instead: 'Or leave distributeSavedActivations out.',
  },
  {
    rule: 'saved-activations-need-full-recompute',
    source: `${source}:421-426`,
    holds: ({ flags }) =>
      !flags?.distributeSavedActivations ||
      (flags.recomputeGranularity === 'full' && flags.recomputeMethod !== undefined),
    message: ({ flags }) =>
      `distributeSavedActivations needs recomputeGranularity full with a recomputeMethod, not ${flags?.recomputeGranularity ?? 'none'} with ${flags?.recomputeMethod ?? 'none'}.`,
    instead: 'Give both, or leave distributeSavedActivations out.',
  },
  {
    rule: 'selective-has-no-method',
    source: `${source}:432-435`,
    holds: ({ flags }) => flags?.recomputeGranularity !== 'selective' || flags.recomputeMethod === undefined,
    message: ({ flags }) =>
      `recomputeMethod ${flags?.recomputeMethod} goes with recomputeGranularity full, not selective.`,
    instead: 'Leave recomputeMethod out.',
  },
] as const satisfies readonly LayoutRule[]

/** The first number of the layout or the batch that is no whole number from 1, with its name. */
function notCounting({ layout, batch }: LayoutProposal): readonly [string, number] | undefined {
  const { tp, pp, cp, worldSize, layersPerVirtualStage } = layout
  if (counts(tp) && counts(pp) && counts(cp) && counts(worldSize) && counts(layersPerVirtualStage)) {
    if (!batch) return undefined
    const { microBatchSize, globalBatchSize, seqLength } = batch
    if (counts(microBatchSize) && counts(globalBatchSize) && counts(seqLength)) return undefined
  }
  const { layersPerStage: _, ...sizes } = layout
  return Object.entries<number | undefined>({ ...sizes, ...batch }).find(
    (entry): entry is [string, number] => !counts(entry[1]),
  )
}

function counts(value: number | undefined): boolean {
  return value === undefined || (Number.isSafeInteger(value) && value >= 1)
}
