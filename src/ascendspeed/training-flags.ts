import type { FlagRow } from './flag-row.ts'

/**
 * Flags of `pretrain_gpt.py` and `posttrain_gpt.py`; the notation is that of `flag-row.ts`.
 *
 * Source: the `add_argument` calls of Megatron-LM bcce6f54 (1.0), cac60ce4 (1.1, RC3) and core_r0.8.0 (MindSpeed-LLM),
 * of the acceleration library that each pins (MindSpeed 224ae35e, 2b0edd21, 4ea42a23, 2.0.0_core_r0.8.0) and of the
 * toolchain itself, later ones replacing earlier ones.
 */
// biome-ignore format: a table
export const trainingFlags: readonly FlagRow[] = [
  {
    since: 'modellink-1.0', until: 'modellink-1.0',
    flags: 'noisy_gate_policy= retro-return-doc-ids retro-workdir= spec=',
  },
  {
    since: 'modellink-1.0', until: 'modellink-rc3',
    flags: 'optimize-recomp-communication-level# rotary-base%',
  },
  {
    since: 'modellink-1.0', until: 'mindspeed-llm',
    flags: `
    accumulate-allreduce-grads-in-fp32 adam-beta1% adam-beta2% adam-eps% adaptive-recompute-device-size#
    adaptive-recompute-device-swap adaptive-recompute-profiling-step# add-dense-bias add-qkv-bias adlr-autoresume
    adlr-autoresume-interval# apply-layernorm-1p apply-query-key-layer-scaling
    apply-residual-connection-post-layernorm attention-dropout% attention-softmax-in-fp32 batch-size#
    bert-embedder-type= bert-load= bert-no-binary-head bf16 biencoder-projection-dim#
    biencoder-shared-query-context-model block-data-path= checkpoint-activations classes-fraction% clip-grad%
    context-parallel-size# data-cache-path= data-parallel-random-init data-path* data-per-class-fraction%
    dataloader-type= decoder-num-layers# decoder-seq-length# delay-param-gather dino-bottleneck-size#
    dino-freeze-last-layer% dino-head-hidden-size# dino-local-crops-number# dino-local-img-size#
    dino-norm-last-layer dino-teacher-temp% dino-warmup-teacher-temp% dino-warmup-teacher-temp-epochs#
    disable-bias-linear disable-tp-comm-bulk-dgrad disable-tp-comm-bulk-wgrad disable-tp-comm-split-ag
    disable-tp-comm-split-rs distribute-saved-activations distributed-backend= distributed-timeout-minutes#
    embed-layernorm embedding-path= empty-unused-memory-level# encoder-num-layers# encoder-seq-length#
    end-weight-decay% eod-mask-loss eval-interval# eval-iters# evidence-data-path= exit-duration-in-mins#
    exit-interval# exit-on-missing-checkpoint exit-signal-handler expert-interval# expert-model-parallel-size#
    ffn-hidden-size# fill-neg-inf finetune fp16 fp16-lm-cross-entropy fp32-residual-connection
    fp8-amax-compute-algo= fp8-amax-history-len# fp8-format= fp8-interval# fp8-margin# global-batch-size#
    group-query-attention head-lr-mult% hidden-dropout% hidden-size# hysteresis# ict-head-size# ict-load= img-h#
    img-w# indexer-batch-size# indexer-log-interval# inference-batch-times-seqlen-threshold# init-method-std%
    init-method-xavier-uniform initial-loss-scale% is-instruction-dataset iter-per-epoch# kv-channels#
    lazy-mpu-init= load= local-rank# local_rank# log-batch-size-to-tensorboard log-interval#
    log-memory-to-tensorboard log-num-zeros-in-grad log-params-norm log-throughput log-timers-to-tensorboard
    log-validation-ppl-to-tensorboard log-world-size-to-tensorboard lora-alpha# lora-load= lora-modules-to-save*
    lora-r# lora-register-forward-hook* lora-target-modules* loss-scale% loss-scale-window% lr% lr-decay-iters#
    lr-decay-samples# lr-decay-style= lr-warmup-fraction% lr-warmup-init% lr-warmup-iters# lr-warmup-samples#
    make-vocab-size-divisible-by# manual-gc manual-gc-interval# mask-factor% mask-prob% mask-type=
    max-position-embeddings# max-tokens-to-oom# merge-file= micro-batch-size# min-loss-scale% min-lr%
    model-parallel-size# moe-aux-loss-coeff% moe-router-load-balancing-type= moe-router-topk#
    moe-train-capacity-factor% moe-z-loss-coeff% nccl-communicator-config-path= next-tockens#
    no-async-tensor-model-parallel-allreduce no-barrier-with-level-1-timing no-bias-dropout-fusion
    no-bias-gelu-fusion no-check-for-nan-in-loss-and-grad no-clone-scatter-output-in-embedding no-data-sharding
    no-delay-grad-reduce no-fp8-wgrad no-gradient-accumulation-fusion no-initialization no-load-optim no-load-rng
    no-log-learnig-rate-to-tensorboard no-log-loss-scale-to-tensorboard no-manual-gc-eval no-masked-softmax-fusion
    no-overlap-p2p-communication no-persist-layer-norm no-position-embedding no-save-optim no-save-rng
    no-scatter-gather-tensors-in-pipeline no-shared-storage norm-epsilon% normalization= num-attention-heads#
    num-channels# num-classes# num-experts# num-layer-list= num-layers# num-layers-per-virtual-pipeline-stage#
    num-query-groups# num-workers# onnx-safe= openai-gelu optimizer= output-bert-embeddings overlap-grad-reduce
    overlap-param-gather override-opt_param-scheduler padded-vocab-size# patch-dim# pipeline-model-parallel-size#
    pipeline-model-parallel-split-rank# position-embedding-type= pre-tockens# profile profile-ranks*
    profile-step-end# profile-step-start# query-in-block-prob% rampup-batch-size* recompute-activations
    recompute-granularity= recompute-method= recompute-num-layers# reset-attention-mask reset-position-ids
    retriever-report-topk-accuracies* retriever-score-scaling retriever-seq-length# retro-add-retriever
    retro-cyclic-train-iters# retro-encoder-attention-dropout% retro-encoder-hidden-dropout% retro-encoder-layers#
    retro-no-verify-neighbor-count retro-num-neighbors# retro-num-retrieved-chunks# reuse-fp32-param rotary-percent%
    rotary-seq-len-interpolation-factor# sample-rate% save-interval# save= seed# seq-length# sequence-parallel
    sgd-momentum% shape-order= short-seq-prob% skip-bias-add skip-train split= square-alibi-mask squared-relu
    standalone-embedding-stage start-weight-decay% swiglu swin-backbone-type= tensor-model-parallel-size#
    tensorboard-dir= tensorboard-log-interval# tensorboard-queue-size# test-data-path* timing-log-level#
    timing-log-option= titles-data-path= tokenizer-kwargs* tokenizer-model= tokenizer-name-or-path=
    tokenizer-not-use-fast tokenizer-padding-side= tokenizer-type= tp-comm-overlap tp-comm-overlap-cfg=
    train-data-path* train-iters# train-samples# transformer-impl= untie-embeddings-and-output-weights
    use-checkpoint-args use-checkpoint-opt_param-scheduler use-cpu-initialization use-distributed-optimizer
    use-flash-attn use-fused-rmsnorm use-fused-rotary-pos-emb use-fused-swiglu use-mcore-models use-one-sent-docs
    use-ring-exchange-p2p use-rotary-position-embeddings valid-data-path* variable-seq-lengths vision-backbone-type=
    vision-pretraining vision-pretraining-type= vocab-extra-ids# vocab-file= vocab-size# wandb-exp-name=
    wandb-project= wandb-save-dir= warmup# weight-decay% weight-decay-incr-style=`,
  },
  { since: 'modellink-1.1', until: 'modellink-1.1', flags: 'use-partial-rope' },
  {
    since: 'modellink-1.1', until: 'modellink-rc3',
    flags: 'enable-one-logger moe-token-dropping one-logger-entity=',
  },
  {
    since: 'modellink-1.1', until: 'mindspeed-llm',
    flags: `
    add-rmsnorm-offset alibi-diagonal-opposite alibi-fusion-attn-type# auto-detect-ckpt-format automated-pipeline
    ckpt-fully-parallel-save ckpt-step# context-parallel-algo= cp-attention-mask-type= decoupled-lr%
    decoupled-min-lr% disable-tp-comm-overlap-ag disable-tp-comm-overlap-rs dist-ckpt-format=
    enable-token-rearrange-opt geglu input-embeds-norm jit-compile log-progress mock-data moe-dynamic-padding
    moe-grouped-gemm moe-input-jitter-eps% moe-model-type= moe-no-drop moe-per-layer-logging
    moe-permutation-async-comm moe-token-dispatcher-type= moe-use-sinkhorn no-bias-swiglu-fusion
    no-create-attention-mask-in-dataloader no-mmap-bin-files no-rope-fusion no-use-rts noisy-gate-policy=
    one-logger-project= one-logger-run-name= optimize-send-recv-comm pretrained-checkpoint= profile-level=
    profile-record-shapes profile-save-path= profile-with-cpu profile-with-memory profile-with-stack qk-layernorm
    recompute-activation-function recompute-activation-function-num-layers# recompute-module-list= recompute-type#
    retro-attention-gate% retro-project-dir= rotary-interleaved save-memory-ratio% sliding-window# sparse-mode#
    spec* test-mode ulysses-degree-in-cp# use-cp-send-recv-overlap use-deter-comp use-dist-ckpt use-fusion-attn-v2
    use-mc2 yaml-cfg=`,
  },
  {
    since: 'modellink-rc3', until: 'modellink-rc3',
    flags: 'dpo-beta= dpo-ftx= dpo-label-smoothing= moe-without-activation optimize-recomp-communication-status# pref-ftx=',
  },
  {
    since: 'modellink-rc3', until: 'mindspeed-llm',
    flags: `
    attn-logit-softcapping% automated-pipeline-perf coc-fused-kernel coc-mode# coc-parallel-num# cp-window-size#
    ddp-bucket-size# dim-model-base% dpo-loss-type= embedding-multiplier-scale% enable-high-availability
    enable-optimizer-state-local-copy enable-recompute-layers-per-pp-rank enable-zero3 first-k-dense-replace#
    full-shuffle-instruction-dataset gelu-tanh high-freq-factor% input-jitter input-layernorm-in-fp32
    interleave-sliding-window# is-pairwise-dataset kv-head-repeat-before-uly-alltoall kv-lora-rank#
    load-checkpoint-loosely lora-fusion low-freq-factor% mbs-idx# memory-fragmentation
    moe-adaptive-recompute-activation moe-adaptive-recompute-activation-scale% moe-allgather-overlap-comm
    moe-alltoall-overlap-comm moe-comm-aux-loss-coeff% moe-device-level-aux-loss-coeff% moe-expert-capacity-factor%
    moe-intermediate-size# moe-layer-freq# moe-pad-expert-input-to-capacity moe-token-drop-policy= moe-tp-extend-ep
    multi-head-latent-attention n-shared-experts# nd1-dim1-size# nd2-dim1-size# no-post-layer-norm no-shuffle
    noop-layers= norm-topk-prob optimization-level# optimized-mbs-list= optimized-mbs-mode
    original-max-position-embeddings% output-layer-slice-num# output-logit-softcapping% output-multiplier-scale%
    pad-to-multiple-of# pipe-experts-multi-data# pipe-experts-multi-stream post-norm pp-schedule-list= prompt-type=
    q-lora-rank# qk-nope-head-dim# qk-rope-head-dim# query-pre-attn-scalar# recompute-in-advance recompute-in-bubble
    recompute-norm recompute-norm-num-layers# ref-model= rope-scaling-beta-fast# rope-scaling-beta-slow#
    rope-scaling-factor% rope-scaling-mscale% rope-scaling-mscale-all-dim%
    rope-scaling-original-max-position-embeddings# rope-scaling-type= routed-scaling-factor% scale-depth% scale-emb%
    seq-aux shared-expert-gate shared-expert-gate-output-dimension# stage= swap-attention swap-modules= topk-group#
    use-ascend-coc use-ascend-mc2 use-fused-moe-token-permute-and-unpermute use-fused-ring-attention-update
    use-glm-rope use-nanopipe use-nanopipe-swap use-nd-matmul use-pipe-experts v-head-dim#`,
  },
  {
    since: 'mindspeed-llm', until: 'mindspeed-llm',
    flags: `
    adaptive-cp-dynamic-attn-mask adaptive-cp-manually-set-mask-list adaptive-cp-only-reschedule
    adaptive-cp-without-coarse adaptive-memory-optimization add-eos-token* add-output-layer-bias additional-config=
    advantage-whiten= ai-framework= ampipe-degree# ampipe-tp-sp-comm-overlap app-tag-run-name= app-tag-run-version=
    async-save attention-mask-on-cpu attention-mask-type= auto-parallel auto-parallel-mm auto-parallel-profile
    auto-tuning auto-tuning-log-level= auto-tuning-ranks# auto-tuning-work-dir= calculate-per-token-loss
    check-weight-hash-across-dp-replicas-interval# ckpt-assume-constant-structure ckpt-fully-parallel-load
    cla-share-factor# clip-ratio% cliprange-value% context-parallel-cache-interval#
    context-parallel-kv-cache-policy= critic-mini-batch-size# critic-update-epochs# cross-entropy-loss-fusion
    cut-max-seqlen dataset-additional-keys* dataset-category= ddp-average-in-collective
    defer-embedding-wgrad-compute deterministic-mode disable-gloo-group disable-straggler-on-startup
    dist-ckpt-strictness= dist-train do-sample dpo-beta% dpo-label-smoothing% dynamic-factor% ema-decay%
    enable-backward-overlap-ag-with-matmul enable-hbmfault-repair enable-overlap-ag-with-matmul
    enable-overlap-matmul-with-rs entropy-coeff% extract-content-for-reward= fix-router gamma% gamma-beta-ratio%
    gemm-gradient-accumulation-fusion hccl-ep-group-buffer-adaptive-factor% hccl-group-buffer-adaptive
    hccl-group-buffer= hccl-slice-size# hf-chat-template history-turns# hybrid-attention-ratio% hybrid-mlp-ratio%
    hybrid-override-pattern= inference-tensor-model-parallel-size# kl-coef% lam% layerzero layerzero-config=
    log-straggler logging-level# long-factor= long-mscale% longrope-freqs-type= lora-ckpt-filter lr-wsd-decay-iters#
    lr-wsd-decay-samples# lr-wsd-decay-style= master-addr= master-port= max-length# max-new-tokens#
    max-prompt-length# md5-validate megatron-cp-in-bnsd missing-eos-penalty% mla-fa-without-pad mla-mm-split
    mla-zero-memory moe-bmm-mc2 moe-experts-pipeline-degree# moe-extended-tp moe-fb-overlap
    moe-hierarchical-alltoallv moe-layer-recompute moe-revert-type-after-topk moe-router-bias-update-rate%
    moe-router-enable-expert-bias moe-router-pre-softmax moe-router-score-function= moe-zero-memory-num-layers#
    moe-zero-memory= mtp-loss-scale% mtp-mem-efficient-logits n-group# n-samples-per-prompt# neat-pack nnodes#
    no-ckpt-fully-parallel-save no-cut-token no-one-logger node-rank# nproc-per-node# npu-deterministic
    num-dataset-builder-threads# num-gpus-for-infer# num-gpus-for-train# num-nextn-predict-layers#
    num-samples-per-step# o2-gradient o2-optimizer one-logger-async op-cal-tflops optimize-vpp-send-recv-comm
    optimizer-selection= padded-base-length# padded-samples param-and-grad-buffer-pad# placeholder-token=
    ppo-epochs# ppo-mini-batch-size# pref-ftx% prof-file= profile-data-simplification profile-export-type=
    profile-memory profile-operator prompt-type-path= qlora qlora-save-dequantize recompute-mtp-layer
    recompute-mtp-norm refer-model-iter# return-document-ids reward-model= reward-tokens* rollout-batch-size#
    rotary-base# router-gating-in-fp32 s3-cache-path= schedules-method= share-kvstates
    share-mtp-embedding-and-output-weight short-factor= short-mscale% shuffle-minibatch simpo-beta%
    simpo-label-smoothing% simpo-loss-type= smart-swap straggler-ctrlr-port# straggler-minmax-count# swap-optimizer
    swap-optimizer-times# task* temperature% tiktoken-num-special-tokens# tiktoken-pattern= tiktoken-special-tokens*
    top-k# top-p% tp-2d tp-comm-overlap-rs-dgrad tp-x# tp-y# unaligned-linear use-ema use-fused-mlp use-kv-cache
    use-legacy-models use-multiparameter-pipeline-model-parallel use-tp-pp-dp-mapping use-ulysses-allgather-kv
    verifier wgrad-deferral-limit#`,
  },
]
