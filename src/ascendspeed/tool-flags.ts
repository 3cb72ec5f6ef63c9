import type { FlagRow } from './flag-row.ts'

/**
 * Flags of the toolchain's other parsers: `preprocess_data.py`, the converter, and the plug-ins that add theirs to it.
 * The notation is that of `flag-row.ts`.
 *
 * Source: their `add_argument` calls at the commits of `generations.ts`.
 */
// biome-ignore format: a table
export const toolFlags = {
  preprocess: [
    {
      since: 'modellink-1.0', until: 'mindspeed-llm',
      flags: `
      append-eod dataset-impl= datasets* handler-name= hf-datasets-params= input= json-keys* keep-newlines
      log-interval# make-vocab-size-divisible-by# merge-file= output-prefix= pad-vocab-size-to# seq-length#
      split-sentences streaming tokenizer-name-or-path= tokenizer-not-use-fast tokenizer-type= vocab-file= workers#`,
    },
    {
      since: 'modellink-rc3', until: 'mindspeed-llm',
      flags: `
      cache-dir= dataset-dir= interleave-probs= map-keys= max-samples# merge-group-keys* mix-strategy= n-subs#
      overwrite-cache pack prompt-type= seed#`,
    },
    {
      since: 'mindspeed-llm', until: 'mindspeed-llm',
      flags: 'dataset-additional-keys* neat-pack placeholder-token= prompt-type-path= reward-tokens* script-data-dir=',
    },
  ],
  convert: [
    {
      since: 'modellink-1.0', until: 'mindspeed-llm',
      flags: 'load-dir= loader= max-queue-size# model-type= no-checking save-dir= saver=',
    },
    { since: 'modellink-1.1', until: 'modellink-1.1', flags: 'lora-dir=' },
    { since: 'modellink-rc3', until: 'mindspeed-llm', flags: 'load-model-type= model-type-hf=' },
    {
      since: 'mindspeed-llm', until: 'mindspeed-llm',
      flags: 'ckpt-cfg-path= load-checkpoint-loosely orm qlora-nf4 spec*',
    },
  ],
  loader_llama2_hf: [
    {
      since: 'modellink-1.0', until: 'modellink-rc3',
      flags: 'add-dense-bias add-qkv-bias megatron-path= params-dtype= tokenizer-model= true-vocab-size# vocab-file= w-pack=',
    },
    { since: 'modellink-1.1', until: 'modellink-rc3', flags: 'make-vocab-size-divisible-by#' },
  ],
  loader_qwen_hf: [
    {
      since: 'modellink-1.0', until: 'modellink-1.1',
      flags: 'add-dense-bias add-qkv-bias megatron-path= tokenizer-model= true-vocab-size# vocab-file=',
    },
  ],
  loader_chatglm3_hf: [
    {
      since: 'modellink-1.1', until: 'modellink-1.1',
      flags: 'add-dense-bias add-qkv-bias megatron-path= params-dtype= tokenizer-model= true-vocab-size# vocab-file= w-pack=',
    },
  ],
  loader_megatron: [
    {
      since: 'modellink-1.0', until: 'modellink-rc3',
      flags: 'add-dense-bias add-qkv-bias embed-layernorm megatron-path= params-dtype= true-vocab-size# vocab-file=',
    },
    { since: 'modellink-1.1', until: 'modellink-rc3', flags: 'num-layers-per-virtual-pipeline-stage#' },
    {
      since: 'modellink-rc3', until: 'modellink-rc3',
      flags: 'lora-alpha# lora-load= lora-r# lora-target-modules*',
    },
  ],
  saver_megatron: [
    {
      since: 'modellink-1.0', until: 'modellink-rc3',
      flags: 'megatron-path= save-model-type= target-pipeline-parallel-size# target-tensor-parallel-size# w-pack=',
    },
    { since: 'modellink-1.1', until: 'modellink-rc3', flags: 'num-layers-per-virtual-pipeline-stage#' },
    { since: 'modellink-rc3', until: 'modellink-rc3', flags: 'num-layer-list=' },
  ],
  loader_hf: [
    {
      since: 'modellink-rc3', until: 'mindspeed-llm',
      flags: `
      add-dense-bias add-qkv-bias make-vocab-size-divisible-by# megatron-path= moe-grouped-gemm params-dtype=
      post-norm tokenizer-model= true-vocab-size# use-mcore-models vocab-file= w-pack=`,
    },
    { since: 'mindspeed-llm', until: 'mindspeed-llm', flags: 'moe-tp-extend-ep noop-layers= spec*' },
  ],
  loader_mg: [
    {
      since: 'modellink-rc3', until: 'mindspeed-llm',
      flags: `
      add-dense-bias add-qkv-bias embed-layernorm load-from-legacy lora-alpha# lora-load= lora-r# lora-target-modules*
      megatron-path= moe-grouped-gemm params-dtype= post-norm true-vocab-size# vocab-file=`,
    },
    { since: 'mindspeed-llm', until: 'mindspeed-llm', flags: 'add-output-layer-bias noop-layers= spec*' },
  ],
  saver: [
    {
      since: 'modellink-rc3', until: 'mindspeed-llm',
      flags: `
      megatron-path= moe-grouped-gemm num-layer-list= num-layers-per-virtual-pipeline-stage# save-model-type=
      save-to-legacy target-expert-parallel-size# target-pipeline-parallel-size# target-tensor-parallel-size#
      use-mcore-models w-pack=`,
    },
    { since: 'mindspeed-llm', until: 'mindspeed-llm', flags: 'load-hf-from-config noop-layers= spec*' },
  ],
} as const satisfies Record<string, readonly FlagRow[]>
