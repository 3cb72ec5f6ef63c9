import { dataParallelSize, divides, type LayoutRule, samplesAtOnce } from './layout-rule.ts'
import type { LayoutProposal } from './proposal.ts'

const source = 'Megatron-LM core_r0.6.0, megatron'

/** What is refused after the arguments: by the batch calculator, the building of the model, the first iteration. */
export const buildingRules = [
  {
    rule: 'batch-by-replicas',
    source: `${source}/training/microbatches.py:61-71`,
    holds: proposal => {
      const atOnce = samplesAtOnce(proposal)
      return atOnce === undefined || divides(atOnce, proposal.batch?.globalBatchSize)
    },
    message: proposal => {
      const { microBatchSize = 1, globalBatchSize } = proposal.batch ?? {}
      const product = `microBatchSize ${microBatchSize} × dp ${dataParallelSize(proposal)} = ${samplesAtOnce(proposal)}`
      return `globalBatchSize ${globalBatchSize} is not divisible by ${product}.`
    },
    turn: [{ name: 'globalBatchSize', unit: samplesAtOnce }, { name: 'microBatchSize' }],
  },
  {
    rule: 'heads-by-tp',
    source: `${source}/core/transformer/transformer_config.py:271-275`,
    holds: ({ model, layout }) => divides(layout.tp, model?.numAttentionHeads),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.numAttentionHeads} attention heads.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'groups-by-tp',
    source: `${source}/core/transformer/transformer_config.py:286-290`,
    holds: ({ model: { numQueryGroups } = {}, layout: { tp }, flags }) =>
      numQueryGroups === undefined ||
      divides(tp, numQueryGroups) ||
      (flags?.replicateQueryGroups === true && divides(numQueryGroups, tp)),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.numQueryGroups} query groups.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'full-recompute-has-method',
    source: `${source}/core/transformer/transformer_config.py:324-332`,
    holds: ({ flags }) => flags?.recomputeGranularity !== 'full' || flags.recomputeMethod !== undefined,
    message: () => 'recomputeGranularity full needs a recomputeMethod.',
    instead: 'Give uniform or block.',
  },
  {
    rule: 'full-recompute-has-layers',
    source: `${source}/core/transformer/transformer_config.py:334-338`,
    holds: ({ flags }) => flags?.recomputeGranularity !== 'full' || flags.recomputeNumLayers !== undefined,
    message: () => 'recomputeGranularity full needs recomputeNumLayers.',
    instead: 'Give from 1 to the layers of one stage.',
  },
  {
    rule: 'selective-has-no-layers',
    source: `${source}/core/transformer/transformer_config.py:339-344`,
    holds: ({ flags }) => flags?.recomputeGranularity !== 'selective' || flags.recomputeNumLayers === undefined,
    message: ({ flags }) =>
      `recomputeNumLayers ${flags?.recomputeNumLayers} goes with recomputeGranularity full, not selective.`,
    instead: 'Leave recomputeNumLayers out.',
  },
  {
    rule: 'saved-activations-not-with-sequence-parallel',
    source: `${source}/core/transformer/transformer_config.py:346-349`,
    holds: ({ layout, flags }) =>
      !(flags?.recomputeGranularity && flags.distributeSavedActivations && flags.sequenceParallel && layout.tp > 1),
    message: () => 'distributeSavedActivations and sequenceParallel exclude each other.',
    instead: 'Leave distributeSavedActivations out: sequence parallelism distributes them already.',
  },
  {
    rule: 'layers-by-list',
    source: 'ModelLink d4feda79, modellink/training/arguments.py:768-769',
    holds: ({ model, layout: { layersPerStage } }) =>
      layersPerStage === undefined || model?.numLayers === undefined || sum(layersPerStage) === model.numLayers,
    message: ({ model, layout: { layersPerStage = [] } }) =>
      `layersPerStage [${layersPerStage}] adds up to ${sum(layersPerStage)}, the model has ${model?.numLayers} layers.`,
  },
  {
    rule: 'vocab-by-tp',
    source: `${source}/core/tensor_parallel/utils.py:110`,
    holds: ({ layout, flags }) => divides(layout.tp, flags?.paddedVocabSize),
    message: ({ layout, flags }) => `tp ${layout.tp} does not divide paddedVocabSize ${flags?.paddedVocabSize}.`,
    turn: [{ name: 'tp' }],
    instead: 'Or pad the vocabulary to a multiple of tp.',
  },
  {
    // ModelLink 1.1 (modellink/model/transformer.py:100-111) and Megatron core do not ask: they drop the layers left over.
    rule: 'layers-by-pp',
    source: 'ModelLink d4feda79, modellink/legacy/model/transformer.py:100-101',
    holds: ({ model, layout: { pp, layersPerStage, layersPerVirtualStage } }) =>
      layersPerStage !== undefined || layersPerVirtualStage !== undefined || divides(pp, model?.numLayers),
    message: ({ model, layout }) => `pp ${layout.pp} does not divide the model's ${model?.numLayers} layers.`,
    turn: [{ name: 'pp' }],
  },
  {
    rule: 'ffn-by-tp',
    source: `${source}/core/tensor_parallel/layers.py:889`,
    holds: ({ model, layout }) => divides(layout.tp, model?.ffnHiddenSize),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.ffnHiddenSize} ffn hidden size.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'iterations',
    source: `${source}/training/training.py:439-464`,
    holds: ({ flags }) => flags?.trainIters === undefined || flags.trainIters > 0,
    message: ({ flags }) => `trainIters ${flags?.trainIters} trains nothing.`,
    instead: 'Give at least 1.',
  },
  {
    rule: 'warm-up-before-decay',
    source: `${source}/training/optimizer_param_scheduler.py:30-32`,
    holds: ({ flags }) => {
      const decay = flags?.lrDecayIters ?? flags?.trainIters
      if (decay === undefined) return (flags?.lrWarmupFraction ?? 0) < 1
      return decay > 0 && warmUp(flags, decay) < decay
    },
    message: ({ flags }) => {
      const decay = flags?.lrDecayIters ?? flags?.trainIters ?? 1
      return `the warm-up of ${warmUp(flags, decay)} iterations does not end before the decay of ${decay}.`
    },
    instead: 'Choose a shorter warm-up.',
  },
  {
    rule: 'microbatches-by-pp',
    source: `${source}/core/pipeline_parallel/schedules.py:479-483`,
    holds: proposal => {
      const atOnce = samplesAtOnce(proposal)
      const { globalBatchSize } = proposal.batch ?? {}
      const { pp, layersPerVirtualStage } = proposal.layout
      if (layersPerVirtualStage === undefined || atOnce === undefined || globalBatchSize === undefined) return true
      return !divides(atOnce, globalBatchSize) || divides(pp, globalBatchSize / atOnce)
    },
    message: proposal => {
      const { microBatchSize = 1, globalBatchSize = 0 } = proposal.batch ?? {}
      const count = globalBatchSize / (samplesAtOnce(proposal) ?? 1)
      return `globalBatchSize ${globalBatchSize} / (microBatchSize ${microBatchSize} × dp ${dataParallelSize(proposal)}) = ${count} micro batches, which pp ${proposal.layout.pp} does not divide, as virtual stages ask.`
    },
    turn: [
      { name: 'globalBatchSize', unit: proposal => (samplesAtOnce(proposal) ?? 1) * proposal.layout.pp },
      { name: 'microBatchSize' },
    ],
    instead: 'Or leave layersPerVirtualStage out.',
  },
  {
    rule: 'sequence-by-tp',
    source: `${source}/core/tensor_parallel/mappings.py:58-61`,
    holds: ({ layout: { tp, cp = 1 }, batch, flags }) =>
      !flags?.sequenceParallel || tp === 1 || divides(tp * cp, batch?.seqLength),
    message: ({ layout: { tp, cp = 1 }, batch }) =>
      `sequenceParallel cuts seqLength ${batch?.seqLength} by tp ${tp} × cp ${cp} = ${tp * cp}, which does not divide it.`,
    turn: [{ name: 'seqLength', unit: ({ layout: { tp, cp = 1 } }) => tp * cp }],
    instead: 'Or leave sequenceParallel out.',
  },
] as const satisfies readonly LayoutRule[]

const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)

function warmUp(flags: LayoutProposal['flags'], decay: number): number {
  return flags?.lrWarmupFraction === undefined ? (flags?.lrWarmupIters ?? 0) : flags.lrWarmupFraction * decay
}
