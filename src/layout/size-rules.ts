import { dataParallelSize, divides, type LayoutRule, replicaSize, samplesAtOnce } from './layout-rule.ts'

const M6 = 'Megatron-LM core_r0.6.0'
const G3 = 'ModelLink master d4feda79'

/** How devices, heads, widths, layers and batches must divide. */
export const sizeRules = [
  {
    rule: 'world-by-replica',
    source: `${M6}, megatron/training/arguments.py:150-175`,
    holds: proposal => divides(replicaSize(proposal), proposal.layout.worldSize),
    message: proposal => {
      const { tp, pp, cp = 1, worldSize } = proposal.layout
      return `tp ${tp} × pp ${pp} × cp ${cp} = ${replicaSize(proposal)} does not divide ${worldSize} devices.`
    },
    turn: [{ name: 'pp' }, { name: 'tp' }, { name: 'worldSize', unit: replicaSize }],
  },
  {
    rule: 'positions',
    source: `${M6}, megatron/training/arguments.py:377-378`,
    holds: ({ model, batch }) =>
      !((batch?.seqLength ?? 0) > (model?.maxPositionEmbeddings ?? Number.POSITIVE_INFINITY)),
    message: ({ model, batch }) =>
      `seqLength ${batch?.seqLength} is more than the model's ${model?.maxPositionEmbeddings} positions.`,
    turn: [{ name: 'seqLength' }],
  },
  {
    rule: 'hidden-by-heads',
    source: `${M6}, megatron/training/arguments.py:366-368`,
    holds: ({ model: { hiddenSize, numAttentionHeads, kvChannels } = {} }) =>
      kvChannels !== undefined || numAttentionHeads === undefined || divides(numAttentionHeads, hiddenSize),
    message: ({ model }) =>
      `the model's ${model?.numAttentionHeads} attention heads do not divide its hidden size ${model?.hiddenSize}, and kvChannels is not given.`,
  },
  {
    rule: 'batch-by-replicas',
    source: `${M6}, megatron/training/microbatches.py:59-71`,
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
    source: `${M6}, megatron/core/transformer/transformer_config.py:271-275`,
    holds: ({ model, layout }) => divides(layout.tp, model?.numAttentionHeads),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.numAttentionHeads} attention heads.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'groups-by-tp',
    source: `${M6}, megatron/core/transformer/transformer_config.py:286-290`,
    holds: ({ model: { numQueryGroups } = {}, layout: { tp }, flags }) =>
      divides(tp, numQueryGroups) || (flags?.replicateQueryGroups === true && divides(numQueryGroups!, tp)),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.numQueryGroups} query groups.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'ffn-by-tp',
    source: `${M6}, megatron/core/tensor_parallel/layers.py:889, megatron/core/utils.py:14-24`,
    holds: ({ model, layout }) => divides(layout.tp, model?.ffnHiddenSize),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.ffnHiddenSize} ffn hidden size.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'vocab-by-tp',
    source: `${M6}, megatron/core/tensor_parallel/utils.py:110`,
    holds: ({ layout, flags }) => divides(layout.tp, flags?.paddedVocabSize),
    message: ({ layout, flags }) => `tp ${layout.tp} does not divide paddedVocabSize ${flags?.paddedVocabSize}.`,
    turn: [{ name: 'tp' }],
    instead: 'Pad the vocabulary to a multiple of tp.',
  },
  {
    rule: 'sequence-by-tp',
    source: `${M6}, megatron/core/tensor_parallel/mappings.py:58-61`,
    holds: ({ layout: { tp, cp = 1 }, batch, flags }) =>
      flags?.sequenceParallel !== true || batch?.seqLength === undefined || divides(tp * cp, batch.seqLength),
    message: ({ layout: { tp, cp = 1 }, batch }) =>
      `sequenceParallel cuts seqLength ${batch?.seqLength} by tp ${tp} × cp ${cp} = ${tp * cp}, which does not divide it.`,
    turn: [{ name: 'seqLength', unit: ({ layout: { tp, cp = 1 } }) => tp * cp }],
    instead: 'Or leave sequenceParallel out.',
  },
  {
    rule: 'layers-by-pp',
    // ModelLink 1.1 and Megatron core's models do not ask: they leave the layers over out of the model, silently.
    source: `${G3}, modellink/legacy/model/transformer.py:100-101`,
    holds: ({ model, layout: { pp, layersPerStage } }) => layersPerStage !== undefined || divides(pp, model?.numLayers),
    message: ({ model, layout }) => `pp ${layout.pp} does not divide the model's ${model?.numLayers} layers.`,
    turn: [{ name: 'pp' }],
    instead: 'Or give layersPerStage.',
  },
] as const satisfies readonly LayoutRule[]
