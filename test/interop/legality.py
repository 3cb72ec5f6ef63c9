"""Checks the layout rules against the toolchain's own validation, written out here once more from its source.

python test/interop/legality.py FOLDER: 20000 random trainings are judged by both, accepted or refused by which rule.
`refusal` goes through the argument validation, the model's configuration, its building and the first iteration of
Megatron-LM core_r0.6.0 (M) and ModelLink d4feda79 (L) in their order and with their variables' names.
"""
import collections
import json
import pathlib
import random
import sys

from tap import check, node, require

CASES = 20000


class Refused(Exception):
    pass


def demand(holds, rule):
    if not holds:
        raise Refused(rule)


def refusal(case):
    """The name of the first rule that refuses the case, or None."""
    args = Args(case)
    try:
        megatron_arguments(args)
        modellink_arguments(args)
        microbatches(args)
        transformer_config(args)
        build(args)
        optimizer_scheduler(args)
        first_iteration(args)
    except Refused as refused:
        return refused.args[0]


class Args:
    """The command line that a case stands for, as argparse gives it."""

    def __init__(self, case):
        model, layout, batch, flags = (case.get(part, {}) for part in ('model', 'layout', 'batch', 'flags'))
        self.tensor_model_parallel_size = layout['tp']
        self.pipeline_model_parallel_size = layout['pp']
        self.context_parallel_size = layout.get('cp', 1)
        replica = layout['tp'] * layout['pp'] * self.context_parallel_size
        self.world_size = layout.get('worldSize', replica)
        self.num_layer_list = ','.join(map(str, layout.get('layersPerStage', []))) or None
        self.num_layers_per_virtual_pipeline_stage = layout.get('layersPerVirtualStage')
        self.num_layers = model['numLayers']
        self.hidden_size = model['hiddenSize']
        self.ffn_hidden_size = model['ffnHiddenSize']
        self.num_attention_heads = model['numAttentionHeads']
        self.num_query_groups = model['numQueryGroups']
        self.group_query_attention = self.num_query_groups != self.num_attention_heads
        self.kv_channels = model.get('kvChannels')
        self.max_position_embeddings = model['maxPositionEmbeddings']
        self.sliding_window = model.get('slidingWindow')
        self.position_embedding_type = 'alibi' if model.get('alibi') else 'rope'
        self.use_glm_rope = model.get('rotaryPercent', 1) < 1
        self.micro_batch_size = batch.get('microBatchSize', 1)
        self.global_batch_size = batch['globalBatchSize']
        self.seq_length = batch['seqLength']
        algorithm = flags.get('contextParallelAlgo', 'ulysses')
        self.context_parallel_algo = f'{algorithm}_cp_algo'
        self.ulysses_degree_in_cp = flags.get('ulyssesDegreeInCp')
        self.use_mcore_models = flags.get('useMcoreModels', False)
        self.sequence_parallel = flags.get('sequenceParallel', False)
        self.use_distributed_optimizer = flags.get('useDistributedOptimizer', False)
        self.overlap_grad_reduce = flags.get('overlapGradReduce', False)
        self.overlap_param_gather = flags.get('overlapParamGather', False)
        self.fp16, self.bf16 = flags.get('fp16', False), flags.get('bf16', False)
        self.reuse_fp32_param = flags.get('reuseFp32Param', False)
        self.recompute_granularity = flags.get('recomputeGranularity')
        self.recompute_method = flags.get('recomputeMethod')
        self.recompute_num_layers = flags.get('recomputeNumLayers')
        self.recompute_activation_function = flags.get('recomputeActivationFunction', False)
        self.enable_recompute_layers_per_pp_rank = flags.get('enableRecomputeLayersPerPpRank', False)
        self.swap_attention = flags.get('swapAttention', False)
        self.distribute_saved_activations = flags.get('distributeSavedActivations', False)
        self.variable_seq_lengths = flags.get('variableSeqLengths', False)
        self.tokenizer_padding_side = flags.get('tokenizerPaddingSide', 'right')
        self.use_fused_rotary_pos_emb = flags.get('useFusedRotaryPosEmb', False)
        self.padded_vocab_size = flags.get('paddedVocabSize')
        self.output_layer_slice_num = flags.get('outputLayerSliceNum', 1)
        self.lr, self.min_lr = flags.get('lr'), flags.get('minLr', 0.0)
        self.train_iters = flags['trainIters']
        self.lr_decay_iters = flags.get('lrDecayIters')
        self.lr_warmup_iters = flags.get('lrWarmupIters', 0)
        self.lr_warmup_fraction = flags.get('lrWarmupFraction')


def megatron_arguments(args):
    """M training/arguments.py:145-516."""
    asked = args.tensor_model_parallel_size, args.pipeline_model_parallel_size
    tp = min(args.tensor_model_parallel_size, args.world_size)
    demand(args.world_size % tp == 0, 'world-by-replica')
    pp = min(args.pipeline_model_parallel_size, args.world_size // tp)
    demand(args.world_size % (pp * tp * args.context_parallel_size) == 0, 'world-by-replica')
    # Megatron goes on with what it cut down; weights that were converted for another layout do not fit then.
    demand((tp, pp) == asked, 'world-by-replica')
    args.data_parallel_size = args.world_size // (pp * tp * args.context_parallel_size)
    args.virtual_pipeline_model_parallel_size = None
    if args.num_layers_per_virtual_pipeline_stage is not None:
        demand(pp > 2, 'virtual-stages-need-pp')
        demand(args.num_layers % pp == 0, 'layers-by-pp')
        num_layers_per_pipeline_stage = args.num_layers // pp
        remainder = num_layers_per_pipeline_stage % args.num_layers_per_virtual_pipeline_stage
        demand(remainder == 0, 'layers-by-virtual-stages')
        args.virtual_pipeline_model_parallel_size = \
            num_layers_per_pipeline_stage // args.num_layers_per_virtual_pipeline_stage
    if args.overlap_param_gather:
        demand(args.use_distributed_optimizer, 'param-gather-needs-distributed-optimizer')
        demand(args.overlap_grad_reduce, 'param-gather-needs-grad-reduce')
        demand(args.use_mcore_models, 'param-gather-needs-mcore')
    if args.fp16:
        demand(not args.bf16, 'one-precision')
    if args.train_iters and args.lr_warmup_fraction is not None:
        demand(args.lr_warmup_iters == 0, 'one-warm-up')
    if args.kv_channels is None:
        demand(args.hidden_size % args.num_attention_heads == 0, 'hidden-by-heads')
    demand(args.max_position_embeddings >= args.seq_length, 'positions')
    if args.lr is not None:
        demand(args.min_lr <= args.lr, 'min-lr')
    if args.distribute_saved_activations:
        demand(tp > 1, 'saved-activations-need-tp')
        demand(args.recompute_granularity == 'full', 'saved-activations-need-full-recompute')
        demand(args.recompute_method is not None, 'saved-activations-need-full-recompute')
    if args.recompute_granularity == 'selective':
        demand(args.recompute_method is None, 'selective-has-no-method')
    if tp == 1:
        args.sequence_parallel = False


def modellink_arguments(args):
    """L modellink/training/arguments.py:825-860, the validations in the order of their calls."""
    context_parallel(args)
    if args.enable_recompute_layers_per_pp_rank:
        recomputation = (args.recompute_granularity is not None and args.recompute_method == 'block') \
            or args.swap_attention or args.recompute_activation_function
        demand(args.num_layers_per_virtual_pipeline_stage and recomputation, 'recompute-layers-per-pp-rank')
    if args.recompute_activation_function:
        demand(args.recompute_method != 'uniform', 'activation-function-not-uniform')
        demand(args.recompute_granularity != 'selective', 'activation-function-not-selective')
    if args.variable_seq_lengths:
        demand(args.context_parallel_size <= 1, 'variable-lengths-without-cp')
    demand(not (args.use_glm_rope and args.use_fused_rotary_pos_emb), 'glm-rope-not-fused')
    if args.position_embedding_type == 'alibi':
        demand(args.sliding_window is None, 'alibi-without-window')
        demand(args.tokenizer_padding_side != 'left', 'alibi-pads-right')
    if args.num_layer_list:
        demand(len(args.num_layer_list.split(',')) == args.pipeline_model_parallel_size, 'stages-by-list')
        demand(args.pipeline_model_parallel_size > 1, 'stages-by-list')
        demand(not args.num_layers_per_virtual_pipeline_stage, 'list-without-virtual-stages')
    demand(args.output_layer_slice_num >= 1, 'output-slices')
    if args.output_layer_slice_num > 1:
        demand(args.tensor_model_parallel_size <= 1, 'output-slices')
        if args.padded_vocab_size is not None:
            demand(args.padded_vocab_size % args.output_layer_slice_num == 0, 'output-slices')
    if args.reuse_fp32_param:
        demand(args.bf16, 'reused-param-needs-bf16')


def context_parallel(args):
    """L modellink/training/arguments.py:145-195."""
    if args.context_parallel_size <= 1:
        return
    demand(args.use_mcore_models, 'context-parallel-needs-mcore')
    if args.context_parallel_algo == 'ulysses_cp_algo':
        demand(args.seq_length % args.context_parallel_size == 0, 'sequence-by-cp')
        attention_heads(args, args.context_parallel_size)
    if args.context_parallel_algo == 'megatron_cp_algo':
        demand(args.seq_length % (2 * args.context_parallel_size) == 0, 'sequence-by-cp')
    if args.context_parallel_algo == 'hybrid_cp_algo':
        demand(args.ulysses_degree_in_cp is not None, 'ulysses-degree')
        ring_degree, remainder = divmod(args.context_parallel_size, args.ulysses_degree_in_cp)
        demand(ring_degree > 1 and remainder == 0, 'ulysses-degree')
        demand(args.seq_length % (2 * args.context_parallel_size) == 0, 'sequence-by-cp')
        attention_heads(args, args.ulysses_degree_in_cp)
    demand(not args.sliding_window, 'context-parallel-without-window')


def attention_heads(args, ulysses_size):
    head, remainder = divmod(args.num_attention_heads, ulysses_size * args.tensor_model_parallel_size)
    demand(head >= 1 and remainder == 0, 'heads-by-ulysses')
    if args.group_query_attention and args.num_query_groups >= 1:
        head_split_by_tp, remainder = divmod(args.num_query_groups, args.tensor_model_parallel_size)
        demand(head_split_by_tp >= 1 and remainder == 0, 'groups-by-tp')


def microbatches(args):
    """M training/microbatches.py:59-72."""
    micro_batch_times_data_parallel = args.micro_batch_size * args.data_parallel_size
    demand(args.global_batch_size % micro_batch_times_data_parallel == 0, 'batch-by-replicas')
    args.num_micro_batches = args.global_batch_size // micro_batch_times_data_parallel
    demand(args.num_micro_batches >= 1, 'batch-by-replicas')


def transformer_config(args):
    """M core/transformer/transformer_config.py:261-355; L modellink/training/arguments.py:763-769."""
    tp = args.tensor_model_parallel_size
    demand(args.num_attention_heads % tp == 0, 'heads-by-tp')
    num_query_groups = args.num_query_groups if args.group_query_attention else args.num_attention_heads
    demand(num_query_groups % tp == 0, 'groups-by-tp')
    if args.recompute_granularity is not None:
        if args.recompute_method is None:
            demand(args.recompute_granularity == 'selective', 'full-recompute-has-method')
        if args.recompute_granularity != 'selective':
            demand(args.recompute_num_layers is not None, 'full-recompute-has-layers')
        else:
            demand(args.recompute_num_layers is None, 'selective-has-no-layers')
        distributed = args.distribute_saved_activations and args.sequence_parallel
        demand(not distributed, 'saved-activations-not-with-sequence-parallel')
        if args.virtual_pipeline_model_parallel_size is not None:
            demand(args.num_layers % args.virtual_pipeline_model_parallel_size == 0, 'layers-by-virtual-stages')
    if args.num_layer_list:
        demand(sum(map(int, args.num_layer_list.split(','))) == args.num_layers, 'layers-by-list')


def build(args):
    """The embedding, the stages, the feed-forward layers: M core/tensor_parallel, L modellink/legacy/model."""
    tp = args.tensor_model_parallel_size
    if args.padded_vocab_size is not None:
        demand(args.padded_vocab_size % tp == 0, 'vocab-by-tp')
    # Megatron core builds floor(layers / pp) layers a stage and leaves the others out: refused like the legacy models.
    if not args.num_layer_list:
        demand(args.num_layers % args.pipeline_model_parallel_size == 0, 'layers-by-pp')
    demand(2 * args.ffn_hidden_size % tp == 0 and args.ffn_hidden_size % tp == 0, 'ffn-by-tp')


def optimizer_scheduler(args):
    """M training/training.py:434-464, training/optimizer_param_scheduler.py:22-32."""
    demand(args.train_iters, 'iterations')
    lr_decay_iters = args.train_iters if args.lr_decay_iters is None else args.lr_decay_iters
    lr_decay_steps = lr_decay_iters * args.global_batch_size
    if args.lr_warmup_fraction is not None:
        lr_warmup_steps = args.lr_warmup_fraction * lr_decay_steps
    else:
        lr_warmup_steps = args.lr_warmup_iters * args.global_batch_size
    demand(lr_decay_steps > 0 and lr_warmup_steps < lr_decay_steps, 'warm-up-before-decay')


def first_iteration(args):
    """M core/pipeline_parallel/schedules.py:479-497, core/tensor_parallel/mappings.py:58-61."""
    if args.virtual_pipeline_model_parallel_size is not None:
        demand(args.num_micro_batches % args.pipeline_model_parallel_size == 0, 'microbatches-by-pp')
    if args.sequence_parallel:
        local, remainder = divmod(args.seq_length, args.context_parallel_size)
        demand(remainder == 0 and local % args.tensor_model_parallel_size == 0, 'sequence-by-tp')


# ---------------------------------------------------------------------------------------------------------------------

MODELS = [
    dict(numLayers=32, hiddenSize=4096, ffnHiddenSize=11008, numAttentionHeads=32, numQueryGroups=32),
    dict(numLayers=80, hiddenSize=8192, ffnHiddenSize=28672, numAttentionHeads=64, numQueryGroups=8),
    dict(numLayers=28, hiddenSize=4096, ffnHiddenSize=13696, numAttentionHeads=32, numQueryGroups=2, rotaryPercent=0.5),
    dict(numLayers=40, hiddenSize=5120, ffnHiddenSize=13696, numAttentionHeads=40, numQueryGroups=40, alibi=True),
    dict(numLayers=60, hiddenSize=7168, ffnHiddenSize=20480, numAttentionHeads=56, numQueryGroups=8),
    dict(numLayers=24, hiddenSize=896, ffnHiddenSize=4864, numAttentionHeads=14, numQueryGroups=2),
    dict(numLayers=28, hiddenSize=3584, ffnHiddenSize=18944, numAttentionHeads=28, numQueryGroups=4),
    dict(numLayers=32, hiddenSize=4096, ffnHiddenSize=14336, numAttentionHeads=32, numQueryGroups=8, slidingWindow=4096),
]


def random_case(rng):
    """A training that is near to being legal: each of its parts is wrong now and then."""
    odd = lambda share=0.08: rng.random() < share
    model = dict(rng.choice(MODELS), maxPositionEmbeddings=rng.choice([4096, 8192, 32768]))
    model['kvChannels'] = model['hiddenSize'] // model['numAttentionHeads']
    if odd(0.1):
        heads = rng.randint(1, 72)
        model.update(numLayers=rng.randint(1, 96), ffnHiddenSize=rng.randint(1, 512) * rng.choice([1, 16]),
                     numAttentionHeads=heads, numQueryGroups=rng.choice([heads, rng.randint(1, heads)]))
        del model['kvChannels']
    if odd(0.02):
        model['slidingWindow'] = 4096
    tp = rng.choice([1, 2, 4, 8, 8, 16] if not odd() else [3, 5, 6, 7, 12])
    pp = rng.choice([1, 1, 2, 4, 4, 8] if not odd() else [3, 5, 6, 7])
    cp = 1 if rng.random() < 0.8 else rng.choice([2, 2, 4, 3, 8])
    layout = dict(tp=tp, pp=pp)
    if cp > 1:
        layout['cp'] = cp
    dp = rng.choice([1, 1, 2, 4, 3])
    if odd(0.9):
        layout['worldSize'] = rng.choice([8, 16, 24, 32, 64]) if odd() else tp * pp * cp * dp
    else:
        dp = 1
    if rng.random() < 0.15:
        stages = [model['numLayers'] // pp] * pp
        if pp > 1 and stages[0] > 1:
            stages[0], stages[1] = stages[0] - 1, stages[1] + 1
        if not odd(0.1):
            stages[-1] += model['numLayers'] - sum(stages)
        if all(stage > 0 for stage in stages):
            layout['layersPerStage'] = stages[:-1] if pp > 2 and odd() else stages
    if rng.random() < (0.3 if pp > 2 else 0.03):
        each = max(1, model['numLayers'] // pp)
        layout['layersPerVirtualStage'] = rng.randint(1, each) if odd(0.2) else rng.choice(divisors(each))
    micro = rng.choice([1, 1, 2, 4, 3])
    batch = dict(microBatchSize=micro, seqLength=rng.choice([4096, 8192, 2048] if not odd(0.15) else [4095, 1000, 4100]))
    times = rng.choice([1, pp, 4 * pp, 16, 64])
    batch['globalBatchSize'] = rng.choice([64, 100, 128, 512]) if odd(0.1) else micro * dp * times
    return dict(model=model, layout=layout, batch=batch, flags=random_flags(rng, odd, cp))


def random_flags(rng, odd, cp):
    flags = dict(trainIters=0 if odd(0.01) else rng.choice([1, 10, 2000]))
    # A path of precision, one of recomputing, one of overlap; then whatever else.
    flags['bf16'] = not odd(0.1)
    if odd(0.05):
        flags['fp16'] = True
    if rng.random() < 0.6:
        flags['sequenceParallel'] = True
    if cp > 1 and not odd(0.1) or odd(0.3):
        flags['useMcoreModels'] = True
    if cp > 1 and rng.random() < 0.7:
        flags['contextParallelAlgo'] = rng.choice(['ulysses', 'megatron', 'hybrid', 'hybrid'])
        if not odd(0.1):
            flags['ulyssesDegreeInCp'] = rng.choice([1, 2, 2, 4, cp])
    recompute = rng.random()
    if recompute < 0.2:
        flags['recomputeGranularity'] = 'selective'
    elif recompute < 0.5:
        flags['recomputeGranularity'] = 'full'
        flags['recomputeMethod'] = rng.choice(['uniform', 'block'])
        flags['recomputeNumLayers'] = rng.choice([1, 4])
    for name, values, share in [
        ('recomputeMethod', ['uniform', 'block'], 0.03), ('recomputeNumLayers', [1], 0.03),
        ('recomputeGranularity', ['full', 'selective'], 0.03), ('recomputeActivationFunction', [True], 0.05),
        ('enableRecomputeLayersPerPpRank', [True], 0.05), ('swapAttention', [True], 0.05),
        ('distributeSavedActivations', [True], 0.05), ('useDistributedOptimizer', [True], 0.5),
        ('overlapGradReduce', [True], 0.5), ('overlapParamGather', [True], 0.1), ('reuseFp32Param', [True], 0.1),
        ('variableSeqLengths', [True], 0.1), ('tokenizerPaddingSide', ['left', 'right'], 0.1),
        ('useFusedRotaryPosEmb', [True], 0.2), ('paddedVocabSize', [152064, 65024, 32000, 32001, 125696], 0.4),
        ('outputLayerSliceNum', [0, 1, 2, 4, 7], 0.04), ('lr', [1e-5, 1e-6], 0.5), ('minLr', [0, 1e-8, 2e-6], 0.5),
        ('lrDecayIters', [0, 1, 5, 2000], 0.05), ('lrWarmupIters', [0, 1, 5, 20], 0.05),
        ('lrWarmupFraction', [0.0, 0.01, 0.5, 1.0], 0.3),
    ]:
        if odd(share):
            flags[name] = rng.choice(values)
    return flags


def divisors(number):
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def main(root):
    rng = random.Random(20240930)
    cases = [random_case(rng) for _ in range(CASES)]
    (root / 'cases.jsonl').write_text('\n'.join(map(json.dumps, cases)))
    node('legality.ts', root)
    verdicts = [json.loads(line) for line in (root / 'verdicts.jsonl').read_text().splitlines()]
    expected = [refusal(case) for case in cases]
    firsts = [verdict[0] if verdict else None for verdict in verdicts]
    with check('layouts accepted and refused as by the toolchain') as figures:
        require(len(verdicts) == CASES)
        wrong = [f'{case}: {ours}, not {theirs}' for case, ours, theirs in zip(cases, firsts, expected)
                 if (ours is None) != (theirs is None)]
        require(not wrong, len(wrong), 'disagreements, such as', *wrong[:1])
        figures += [f'{CASES} layouts', f'{expected.count(None)} accepted', '0 disagreements']
    with check('the rule that the toolchain names first') as figures:
        wrong = [f'{case}: {ours}, not {theirs}' for case, ours, theirs in zip(cases, firsts, expected)
                 if ours != theirs]
        require(not wrong, len(wrong), 'disagreements, such as', *wrong[:1])
        counts = collections.Counter(rule for rule in expected if rule)
        figures += [f'{len(counts)} rules', f'rarest {min(counts.values())} times', '0 disagreements']


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
