import { FormatError } from '../errors.ts'
import { numberValue, type PickleValue, pickleFloat } from '../formats/pickle-value.ts'
import type { Dtype } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { type LoraTarget, legacyTarget, loraTarget } from '../models/lora-rules.ts'
import type { MegatronLayout, ParallelSizes } from './stage-weights.ts'

/** The adapters of a LoRA training checkpoint; they count `alpha / r` times. */
export interface LoraSettings {
  readonly r: number
  readonly alpha: number
  readonly targets: readonly LoraTarget[]
  /** The Megatron checkpoint that was trained on (the job's `--load`). */
  readonly base: string
}

export interface ArgsOptions {
  readonly architecture: Architecture
  readonly parallel: ParallelSizes
  readonly layout: MegatronLayout
  readonly paddedVocabSize: number
  readonly dtype: Dtype
  readonly iteration: number
  readonly consumedTrainSamples: number
  readonly lora?: LoraSettings | undefined
  readonly extraArgs: Readonly<Record<string, PickleValue>>
}

/**
 * The `args` of a checkpoint file: every field that Megatron's `load_args_from_checkpoint`, its comparison on resume
 * and ModelLink's converters read, with the values that a converted checkpoint holds; `extraArgs` win.
 * Source: Megatron-LM core_r0.6.0, checkpointing.py:36-73, 592-622; the `args` of checkpoints written by ModelLink.
 */
export function megatronArgs(options: ArgsOptions): ReadonlyMap<string, PickleValue> {
  const { architecture: model, parallel, layout, lora } = options
  const { tp, pp, layersPerStage, layersPerVirtualStage } = parallel
  const storedGroups = Math.max(model.numQueryGroups, tp)
  return new Map<string, PickleValue>(
    Object.entries({
      num_layers: model.numLayers,
      encoder_num_layers: model.numLayers,
      hidden_size: model.hiddenSize,
      ffn_hidden_size: model.ffnHiddenSize,
      num_attention_heads: model.numAttentionHeads,
      kv_channels: model.kvChannels,
      group_query_attention: storedGroups !== model.numAttentionHeads,
      num_query_groups: storedGroups,
      ...(storedGroups === model.numQueryGroups ? {} : { [trueGroups]: model.numQueryGroups }),
      max_position_embeddings: model.maxPositionEmbeddings,
      seq_length: model.maxPositionEmbeddings,
      encoder_seq_length: model.maxPositionEmbeddings,
      position_embedding_type: model.alibi ? 'alibi' : 'rope',
      use_rotary_position_embeddings: !model.alibi,
      add_position_embedding: true,
      rotary_base: pickleFloat(model.rotaryBase),
      ...rotaryShare(model.rotaryPercent ?? 1, layout),
      rotary_interleaved: false,
      normalization: 'RMSNorm',
      norm_epsilon: pickleFloat(model.normEpsilon),
      apply_layernorm_1p: false,
      apply_query_key_layer_scaling: false,
      swiglu: true,
      add_bias_linear: false,
      add_dense_bias: false,
      add_qkv_bias: model.addQkvBias,
      qk_layernorm: model.qkNorm ?? false,
      untie_embeddings_and_output_weights: !model.tiedEmbeddings,
      vocab_size: model.vocabSize,
      padded_vocab_size: options.paddedVocabSize,
      make_vocab_size_divisible_by: 1,
      tokenizer_type: 'PretrainedFromHF',
      tokenizer_model: null,
      fp16: options.dtype === 'F16',
      bf16: options.dtype === 'BF16',
      params_dtype: { type: 'dtype', dtype: options.dtype },
      use_mcore_models: layout === 'mcore',
      transformer_impl: 'local',
      tensor_model_parallel_size: tp,
      pipeline_model_parallel_size: pp,
      transformer_pipeline_model_parallel_size: pp,
      virtual_pipeline_model_parallel_size:
        layersPerVirtualStage === undefined ? null : model.numLayers / (pp * layersPerVirtualStage),
      num_layers_per_virtual_pipeline_stage: layersPerVirtualStage ?? null,
      num_layer_list: layersPerStage?.join(',') ?? null,
      context_parallel_size: 1,
      expert_model_parallel_size: 1,
      data_parallel_size: 1,
      sequence_parallel: false,
      world_size: tp * pp,
      rank: 0,
      iteration: options.iteration,
      consumed_train_samples: options.consumedTrainSamples,
      consumed_valid_samples: 0,
      lora_target_modules: lora?.targets.map(target => (layout === 'legacy' ? legacyTarget(target) : target)) ?? [],
      lora_r: lora?.r ?? 16,
      lora_alpha: lora?.alpha ?? 32,
      lora_load: null,
      ...(lora === undefined ? {} : { load: lora.base }),
      ...options.extraArgs,
    } satisfies Record<string, PickleValue>),
  )
}

/** Fields that follow from how a checkpoint is cut and stored; in another layout they have other values. */
const layoutFields: ReadonlySet<string> = new Set([
  ...['tensor_model_parallel_size', 'pipeline_model_parallel_size', 'transformer_pipeline_model_parallel_size'],
  ...['virtual_pipeline_model_parallel_size', 'num_layers_per_virtual_pipeline_stage', 'num_layer_list'],
  ...['data_parallel_size', 'world_size', 'rank', 'vocab_size', 'padded_vocab_size', 'make_vocab_size_divisible_by'],
  ...['num_query_groups', 'group_query_attention', 'num_query_groups_before_copies', 'lora_target_modules'],
  ...['rotary_percent', 'use_partial_rope', 'use_glm_rope', 'use_mcore_models', 'transformer_impl'],
  ...['params_dtype', 'bf16', 'fp16'],
])

/** The fields of a checkpoint's `args` that another layout of it keeps. */
export function carriedArgs(args: ReadonlyMap<string, PickleValue>): Readonly<Record<string, PickleValue>> {
  return Object.fromEntries([...args].filter(([field]) => !layoutFields.has(field)))
}

/**
 * Our own field: the model's key/value groups where a checkpoint has as many copies as ranks. Megatron's
 * `num_query_groups` must be what its modules are built with, and that are the copies.
 */
const trueGroups = 'num_query_groups_before_copies'

// ModelLink 1.1 halves the width itself (`--use-partial-rope`); its master has `--use-glm-rope --rotary-percent 0.5`.
function rotaryShare(share: number, layout: MegatronLayout): Record<string, PickleValue> {
  if (share === 1) return { rotary_percent: pickleFloat(1) }
  if (layout === 'mcore') return { rotary_percent: pickleFloat(share), use_glm_rope: true }
  return { rotary_percent: pickleFloat(1), use_partial_rope: true }
}

/** Reads `args` field by field; every mistake is a FormatError that names file and field. */
export interface ArgsReader {
  /** The number in a field, or undefined when it is absent or None. */
  number(field: string): number | undefined
  /** The number in a field that must be there: whole, from 1 to `max`, default 2^31. */
  count(field: string, max?: number): number
  flag(field: string): boolean | undefined
  text(field: string): string | undefined
  texts(field: string): readonly string[]
}

/** A reader of the `args` of `file`. */
export function argsReader(args: ReadonlyMap<string, PickleValue>, file: string): ArgsReader {
  const refuse = (field: string, expected: string): never => {
    const value = args.get(field)
    const found =
      value === undefined
        ? 'nothing'
        : (JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? `${item}` : item)) ?? '')
    throw new FormatError({ file, expected: `${expected} in args.${field}`, found: found.slice(0, 60) })
  }
  const number = (field: string): number | undefined => {
    const value = args.get(field) ?? undefined
    return value === undefined ? undefined : (numberValue(value) ?? refuse(field, 'a number'))
  }
  return {
    number,
    count: (field, max = 2 ** 31) => {
      const value = number(field)
      const isCount = value !== undefined && Number.isSafeInteger(value) && value >= 1 && value <= max
      return isCount ? value : refuse(field, `a whole number from 1 to ${max}`)
    },
    flag: field => {
      const value = args.get(field) ?? undefined
      return value === undefined || typeof value === 'boolean' ? value : refuse(field, 'True or False')
    },
    text: field => {
      const value = args.get(field) ?? undefined
      return value === undefined || typeof value === 'string' ? value : refuse(field, 'a text')
    },
    texts: field => {
      const value = args.get(field) ?? []
      const isTexts = Array.isArray(value) && value.every(item => typeof item === 'string')
      return isTexts ? (value as readonly string[]) : refuse(field, 'a list of texts')
    },
  }
}

/**
 * The model that `args` describe. They do not name a family, only what sets some apart (see `familyOf`), so that most
 * weights go by Llama's names; and `vocab_size` is often absent: then the vocabulary is taken to be the padded one.
 */
export function architectureFromArgs(args: ArgsReader): Architecture {
  const numAttentionHeads = args.count('num_attention_heads', 65_536)
  const isGrouped = args.flag('group_query_attention') ?? false
  const storedGroups = isGrouped ? args.count('num_query_groups', 65_536) : numAttentionHeads
  const hiddenSize = args.count('hidden_size')
  const properties = {
    addQkvBias: args.flag('add_qkv_bias') ?? false,
    rotaryPercent: (args.flag('use_partial_rope') ?? false) ? 0.5 : (args.number('rotary_percent') ?? 1),
    alibi: args.text('position_embedding_type') === 'alibi',
    qkNorm: args.flag('qk_layernorm') ?? false,
  }
  const { addQkvBias, rotaryPercent, alibi, qkNorm } = properties
  return {
    family: familyOf(properties),
    numLayers: args.count('num_layers', 10_000),
    hiddenSize,
    ffnHiddenSize: args.count('ffn_hidden_size'),
    numAttentionHeads,
    numQueryGroups: args.number(trueGroups) === undefined ? storedGroups : args.count(trueGroups, storedGroups),
    kvChannels: args.number('kv_channels') === undefined ? hiddenSize / numAttentionHeads : args.count('kv_channels'),
    vocabSize: args.number('vocab_size') === undefined ? args.count('padded_vocab_size') : args.count('vocab_size'),
    maxPositionEmbeddings: args.count('max_position_embeddings'),
    normEpsilon: args.number('norm_epsilon') ?? 1e-5,
    rotaryBase: args.number('rotary_base') ?? 10000,
    tiedEmbeddings: !(args.flag('untie_embeddings_and_output_weights') ?? false),
    addQkvBias,
    ...(rotaryPercent === 1 ? {} : { rotaryPercent }),
    ...(alibi ? { alibi } : {}),
    ...(qkNorm ? { qkNorm } : {}),
  }
}

function familyOf(has: { addQkvBias: boolean; rotaryPercent: number; alibi: boolean; qkNorm: boolean }): string {
  if (has.alibi) return 'baichuan'
  if (has.rotaryPercent !== 1) return 'chatglm'
  if (has.qkNorm) return 'qwen3'
  return has.addQkvBias ? 'qwen2' : 'llama'
}

/** The adapters that `args` describe, or undefined when no layer is a target. */
export function loraFromArgs(args: ArgsReader, file: string): LoraSettings | undefined {
  const targets = args.texts('lora_target_modules').map(name => {
    const target = loraTarget(name)
    if (target !== undefined) return target
    throw new FormatError({
      file,
      expected: 'linear layers of attention or feed-forward in args.lora_target_modules',
      found: `'${name}'`,
    })
  })
  if (targets.length === 0) return undefined
  return {
    r: args.count('lora_r'),
    alpha: args.number('lora_alpha') ?? args.count('lora_alpha'),
    targets,
    base: args.text('load') ?? '',
  }
}
