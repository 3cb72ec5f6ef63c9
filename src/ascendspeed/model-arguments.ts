import { UnsupportedError } from '../errors.ts'
import type { Word } from '../flow/launch.ts'
import { paddedVocabSize } from '../layout/vocab-padding.ts'
import type { Architecture } from '../models/architecture.ts'
import { isGlm4 } from './converter-models.ts'
import { type Generation, generationFacts } from './generations.ts'

/** What decides how a model is described to `pretrain_gpt.py`. */
export interface DescribedModel {
  readonly architecture: Architecture
  readonly layout: 'legacy' | 'mcore'
  readonly tp: number
  /** Rows of the checkpoint's embedding; default the smallest multiple of tp, as the converters store it. */
  readonly paddedVocabSize?: number | undefined
  /** Longest sequence that the model is to take; default what its `config.json` says. */
  readonly maxPositionEmbeddings?: number | undefined
}

/**
 * The flags that describe a model: sizes, attention, positions, norms, vocabulary.
 *
 * The vocabulary is always given as `--padded-vocab-size`, since the toolchain would otherwise pad `len(tokenizer)`,
 * which is often less than the embedding has; so is `--norm-epsilon`, which the example scripts of Qwen leave at 1e-5
 * where the model has 1e-6. With fewer query groups than tp each is stored several times, and Megatron
 * is told of tp groups. Source: ModelLink 1.1, modellink/tokenizer/tokenizer.py:51-54, and its example scripts.
 */
export function modelArguments(generation: Generation, model: DescribedModel): readonly Word[] {
  const { architecture, layout, tp } = model
  const { numAttentionHeads, hiddenSize, kvChannels, vocabSize } = architecture
  const groups = trainedQueryGroups(architecture, tp)
  return [
    ...(layout === 'mcore' ? ['--use-mcore-models'] : []),
    ...['--num-layers', architecture.numLayers, '--hidden-size', hiddenSize],
    ...['--ffn-hidden-size', architecture.ffnHiddenSize, '--num-attention-heads', numAttentionHeads],
    ...(groups === numAttentionHeads ? [] : ['--group-query-attention', '--num-query-groups', groups]),
    ...(kvChannels * numAttentionHeads === hiddenSize ? [] : ['--kv-channels', kvChannels]),
    ...['--max-position-embeddings', model.maxPositionEmbeddings ?? architecture.maxPositionEmbeddings],
    ...positionWords(generation, model),
    ...['--normalization', 'RMSNorm', '--norm-epsilon', architecture.normEpsilon, '--swiglu'],
    ...['--disable-bias-linear', ...(architecture.addQkvBias ? ['--add-qkv-bias'] : [])],
    ...(architecture.tiedEmbeddings ? [] : ['--untie-embeddings-and-output-weights']),
    ...['--padded-vocab-size', model.paddedVocabSize ?? paddedVocabSize({ vocabSize, tp })],
    ...['--make-vocab-size-divisible-by', 1, '--attention-dropout', '0.0', '--hidden-dropout', '0.0'],
  ]
}

/** Query groups that Megatron is told of: with fewer than tp, each is stored several times, so that there are tp. */
export function trainedQueryGroups({ numQueryGroups }: Architecture, tp: number): number {
  return tp % numQueryGroups === 0 ? Math.max(numQueryGroups, tp) : numQueryGroups
}

function positionWords(generation: Generation, { architecture, layout }: DescribedModel): readonly Word[] {
  const { alibi, rotaryBase, rotaryPercent } = architecture
  if (alibi) return ['--position-embedding-type', 'alibi', '--square-alibi-mask', '--fill-neg-inf']
  const base = rotaryBase === 10000 ? [] : ['--rotary-base', rotaryBase]
  const words: readonly Word[] = ['--position-embedding-type', 'rope', ...base]
  if (rotaryPercent === undefined) return [...words, '--use-fused-rotary-pos-emb']
  if (rotaryPercent !== 0.5 || generation === 'modellink-1.0')
    throw new UnsupportedError(
      `${generationFacts[generation].title} cannot turn ${rotaryPercent} of each head by RoPE.`,
    )
  if (generation === 'modellink-1.1') return [...words, '--use-partial-rope']
  return [...words, '--use-glm-rope', '--rotary-percent', 0.5, ...(layout === 'mcore' ? ['--no-rope-fusion'] : [])]
}

/**
 * Flags about the tokenizer, with what the files of some models lack.
 * Source: ModelLink 1.1, examples/qwen/pretrain_qwen_7b_ptd.sh and examples/chatglm3/tune_chatglm3_6B_8K.sh.
 */
export function tokenizerArguments(
  architecture: Architecture,
  { tokenizer, instruction }: { readonly tokenizer: string; readonly instruction: boolean },
): readonly Word[] {
  const words: readonly Word[] = [
    '--tokenizer-type',
    'PretrainedFromHF',
    '--tokenizer-name-or-path',
    { read: tokenizer },
  ]
  const { family } = architecture
  if (family === 'qwen')
    return [...words, '--tokenizer-kwargs', 'eos_token', '<|endoftext|>', 'pad_token', '<|extra_0|>']
  return family === 'chatglm' && instruction && !isGlm4(architecture)
    ? [...words, '--tokenizer-not-use-fast', '--tokenizer-padding-side', 'left']
    : words
}
