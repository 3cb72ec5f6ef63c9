import type { MegatronCheckpointSource } from '../checkpoint/open-megatron.ts'
import { InputError } from '../errors.ts'
import type { TrainOptions } from './arguments.ts'

/**
 * Checks that the command line and the checkpoint speak of the same model and layout, as Megatron does on loading.
 * Source of the message: Megatron-LM core_r0.6.0, checkpointing.py, `check_checkpoint_args`.
 * @throws InputError with every field that differs and both values.
 */
export function checkModelAgreement(options: TrainOptions, checkpoint: MegatronCheckpointSource): void {
  const { architecture, paddedVocabSize } = checkpoint
  const { model, tp } = options
  const stated: readonly (readonly [flag: string, checkpoint: unknown, argument: unknown])[] = [
    ['tensor-model-parallel-size', checkpoint.tp, tp],
    ['pipeline-model-parallel-size', checkpoint.pp, options.pp],
    ['use-mcore-models', checkpoint.layout === 'mcore', options.layout === 'mcore'],
    ['num-layers', architecture.numLayers, model.numLayers],
    ['hidden-size', architecture.hiddenSize, model.hiddenSize],
    ['ffn-hidden-size', architecture.ffnHiddenSize, model.ffnHiddenSize],
    ['num-attention-heads', architecture.numAttentionHeads, model.numAttentionHeads],
    ['num-query-groups', architecture.numQueryGroups, model.numQueryGroups],
    ['kv-channels', architecture.kvChannels, model.kvChannels],
    ['norm-epsilon', architecture.normEpsilon, model.normEpsilon],
    ['rotary-base', architecture.rotaryBase, model.rotaryBase],
    ['add-qkv-bias', architecture.addQkvBias, model.addQkvBias],
    [
      'untie-embeddings-and-output-weights',
      !architecture.tiedEmbeddings,
      model.tiedEmbeddings === false ? true : undefined,
    ],
    ['padded-vocab-size', paddedVocabSize, model.paddedVocabSize],
  ]
  const wrong = stated
    .filter(([, found, argument]) => argument !== undefined && found !== argument)
    .map(
      ([flag, found, argument]) =>
        `${flag} value from checkpoint (${found}) is not equal to the input argument value (${argument}).`,
    )
  const positions = options.maxPositionEmbeddings ?? architecture.maxPositionEmbeddings
  if (options.seqLength > positions) {
    wrong.push(
      `--seq-length ${options.seqLength} is more than the ${positions} positions of the checkpoint; --max-position-embeddings states more.`,
    )
  }
  const multiple = (options.makeVocabSizeDivisibleBy ?? 1) * tp
  if (paddedVocabSize % multiple !== 0) {
    wrong.push(
      `The checkpoint’s padded vocabulary (${paddedVocabSize}) is not a multiple of make-vocab-size-divisible-by × tp (${multiple}).`,
    )
  }
  if (wrong.length > 0) throw new InputError(`${options.load}: ${wrong.join(' ')}`)
}
