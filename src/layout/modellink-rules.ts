import { divides, type LayoutRule } from './layout-rule.ts'
import type { LayoutProposal } from './proposal.ts'

const source = 'ModelLink d4feda79, modellink/training/arguments.py'

/** What ModelLink's own validation refuses after Megatron's, in its order. */
export const modelLinkRules = [
  {
    rule: 'context-parallel-needs-mcore',
    source: `${source}:175-176`,
    holds: ({ layout: { cp = 1 }, flags }) => cp === 1 || flags?.useMcoreModels === true,
    message: ({ layout }) => `cp ${layout.cp} works with Megatron core's models only, not with legacy ones.`,
    turn: [{ name: 'cp' }],
    instead: 'Or set useMcoreModels.',
  },
  {
    rule: 'ulysses-degree',
    source: `${source}:187-189`,
    holds: ({ layout: { cp = 1 }, flags }) => {
      const degree = flags?.ulyssesDegreeInCp
      return cp === 1 || flags?.contextParallelAlgo !== 'hybrid' || (!!degree && cp > degree && divides(degree, cp))
    },
    message: ({ layout, flags }) =>
      `hybrid context parallelism needs a ulyssesDegreeInCp that divides cp ${layout.cp} and is less, not ${flags?.ulyssesDegreeInCp ?? 'none'}.`,
    turn: [{ name: 'cp' }],
  },
  {
    rule: 'sequence-by-cp',
    source: `${source}:179,183-184,190-191`,
    holds: proposal => divides(sequenceCuts(proposal), proposal.batch?.seqLength),
    message: proposal =>
      `seqLength ${proposal.batch?.seqLength} is not divisible by ${sequenceCuts(proposal)}, as ${algorithmOf(proposal)} context parallelism at cp ${proposal.layout.cp} asks.`,
    turn: [{ name: 'seqLength', unit: sequenceCuts }, { name: 'cp' }],
  },
  {
    rule: 'heads-by-ulysses',
    source: `${source}:150-151`,
    holds: proposal => divides(ulyssesSize(proposal) * proposal.layout.tp, headsUnderUlysses(proposal)),
    message: proposal => {
      const [{ tp }, ulysses] = [proposal.layout, ulyssesSize(proposal)]
      return `ulysses ${ulysses} × tp ${tp} = ${ulysses * tp} does not divide the model's ${proposal.model?.numAttentionHeads} attention heads.`
    },
    turn: [{ name: 'cp' }, { name: 'tp' }],
  },
  {
    rule: 'groups-by-tp',
    source: `${source}:152-154`,
    holds: proposal =>
      headsUnderUlysses(proposal) === undefined || divides(proposal.layout.tp, proposal.model?.numQueryGroups),
    message: ({ model, layout }) =>
      `tp ${layout.tp} does not divide the model's ${model?.numQueryGroups} query groups.`,
    turn: [{ name: 'tp' }],
  },
  {
    rule: 'context-parallel-without-window',
    source: `${source}:194-195`,
    holds: ({ layout: { cp = 1 }, model }) => cp === 1 || !model?.slidingWindow,
    message: ({ layout, model }) =>
      `cp ${layout.cp} does not work with the model's attention window of ${model?.slidingWindow} tokens.`,
    turn: [{ name: 'cp' }],
  },
  {
    rule: 'recompute-layers-per-pp-rank',
    source: `${source}:591-597`,
    holds: ({ layout, flags }) =>
      !flags?.enableRecomputeLayersPerPpRank ||
      (layout.layersPerVirtualStage !== undefined &&
        ((flags.recomputeGranularity !== undefined && flags.recomputeMethod === 'block') ||
          flags.swapAttention === true ||
          flags.recomputeActivationFunction === true)),
    message: () =>
      'enableRecomputeLayersPerPpRank needs virtual stages and one of recomputeMethod block, swapAttention, recomputeActivationFunction.',
    instead: 'Give those, or leave it out.',
  },
  {
    rule: 'activation-function-not-uniform',
    source: `${source}:599-601`,
    holds: ({ flags }) => !flags?.recomputeActivationFunction || flags.recomputeMethod !== 'uniform',
    message: () => 'recomputeActivationFunction and recomputeMethod uniform exclude each other.',
    instead: 'Use recomputeMethod block, or leave one out.',
  },
  {
    rule: 'activation-function-not-selective',
    source: `${source}:602-603`,
    holds: ({ flags }) => !flags?.recomputeActivationFunction || flags.recomputeGranularity !== 'selective',
    message: () => 'recomputeActivationFunction and recomputeGranularity selective exclude each other.',
    instead: 'Use recomputeGranularity full, or leave one out.',
  },
  {
    rule: 'variable-lengths-without-cp',
    source: `${source}:619-622`,
    holds: ({ layout: { cp = 1 }, flags }) => cp === 1 || !flags?.variableSeqLengths,
    message: ({ layout }) => `variableSeqLengths does not work with cp ${layout.cp}.`,
    turn: [{ name: 'cp' }],
    instead: 'Or leave variableSeqLengths out.',
  },
  {
    rule: 'glm-rope-not-fused',
    source: `${source}:579-580`,
    holds: ({ model, flags }) => !flags?.useFusedRotaryPosEmb || (model?.rotaryPercent ?? 1) === 1,
    message: ({ model }) =>
      `useFusedRotaryPosEmb turns whole heads, the model turns a share of ${model?.rotaryPercent} (GLM's RoPE).`,
    instead: 'Leave useFusedRotaryPosEmb out.',
  },
  {
    rule: 'alibi-without-window',
    source: `${source}:581-582; ModelLink 43fb3461, modellink/arguments.py:289-290`,
    holds: ({ model }) => !model?.alibi || !model.slidingWindow,
    message: ({ model }) => `ALiBi and an attention window of ${model?.slidingWindow} tokens exclude each other.`,
  },
  {
    rule: 'alibi-pads-right',
    source: `${source}:583-584; ModelLink 43fb3461, modellink/arguments.py:291-292`,
    holds: ({ model, flags }) => !model?.alibi || flags?.tokenizerPaddingSide !== 'left',
    message: () => 'ALiBi does not work with tokenizerPaddingSide left.',
    instead: 'Pad on the right.',
  },
  {
    rule: 'stages-by-list',
    source: `${source}:692-696`,
    holds: ({ layout: { pp, layersPerStage } }) =>
      layersPerStage === undefined ||
      (pp > 1 &&
        layersPerStage.length === pp &&
        layersPerStage.every(count => Number.isSafeInteger(count) && count >= 1)),
    message: ({ layout: { pp, layersPerStage = [] } }) =>
      `layersPerStage [${layersPerStage}] must be a number from 1 for each of pp ${pp} stages, two or more; they are ${layersPerStage.length}.`,
  },
  {
    rule: 'list-without-virtual-stages',
    source: `${source}:697-698`,
    holds: ({ layout }) => layout.layersPerStage === undefined || layout.layersPerVirtualStage === undefined,
    message: () => 'layersPerStage and layersPerVirtualStage exclude each other.',
    instead: 'Give one of them.',
  },
  {
    rule: 'output-slices',
    source: `${source}:738-745`,
    holds: ({ layout, flags: { outputLayerSliceNum: slices = 1, paddedVocabSize } = {} }) =>
      slices === 1 || (slices > 1 && layout.tp === 1 && divides(slices, paddedVocabSize)),
    message: ({ layout, flags }) =>
      `outputLayerSliceNum ${flags?.outputLayerSliceNum} needs tp 1 and a paddedVocabSize that it divides; tp is ${layout.tp}, paddedVocabSize ${flags?.paddedVocabSize ?? 'not given'}.`,
    turn: [{ name: 'tp' }],
    instead: 'Or leave outputLayerSliceNum out.',
  },
  {
    rule: 'reused-param-needs-bf16',
    source: `${source}:779-780`,
    holds: ({ flags }) => !flags?.reuseFp32Param || flags.bf16 === true,
    message: () => 'reuseFp32Param works with bf16 only.',
    instead: 'Set bf16, or leave reuseFp32Param out.',
  },
] as const satisfies readonly LayoutRule[]

const algorithmOf = ({ flags }: LayoutProposal) => flags?.contextParallelAlgo ?? 'ulysses'

/** Parts into which a sequence is cut: rings take one from each end, so that the causal mask weighs alike on all. */
function sequenceCuts(proposal: LayoutProposal): number {
  const { cp = 1 } = proposal.layout
  return cp === 1 || algorithmOf(proposal) === 'ulysses' ? cp : 2 * cp
}

/** Devices that share out the heads of one sequence among them. */
function ulyssesSize(proposal: LayoutProposal): number {
  const { cp = 1 } = proposal.layout
  const algorithm = algorithmOf(proposal)
  return algorithm === 'ulysses' ? cp : algorithm === 'hybrid' ? (proposal.flags?.ulyssesDegreeInCp ?? 1) : 1
}

/** The model's heads where Ulysses shares them out. */
function headsUnderUlysses(proposal: LayoutProposal): number | undefined {
  const { cp = 1 } = proposal.layout
  return cp === 1 || algorithmOf(proposal) === 'megatron' ? undefined : proposal.model?.numAttentionHeads
}
