import { describe, expect, test } from 'vitest'
import { parseArguments } from '../../src/trainer/arguments.ts'

const minimal =
  '--load init --data-path data/web_text_document --seq-length 128 --micro-batch-size 2 --train-iters 10 --lr 1e-4'

const parse = (more = '') => parseArguments([...minimal.split(' '), ...more.split(' ').filter(Boolean)])

test('what is left out has the defaults of Megatron', () => {
  expect(parse()).toMatchObject({
    tp: 1,
    pp: 1,
    layout: 'legacy',
    dtype: 'F32',
    globalBatchSize: 2,
    lrDecayStyle: 'linear',
    minLr: 0,
    weightDecay: 0.01,
    clipGrad: 1,
    adamBeta1: 0.9,
    adamBeta2: 0.999,
    adamEps: 1e-8,
    seed: 1234,
    split: '969, 30, 1',
    logInterval: 100,
    evalInterval: 1000,
    evalIters: 100,
    numerics: 'reproducible',
  })
})

test('the command line of ModelLink’s Llama-2-13B example is understood', () => {
  // Source: ModelLink, examples/llama2/pretrain_llama2_13B_ptd_8p.sh.
  const argv =
    '--tensor-model-parallel-size 8 --pipeline-model-parallel-size 1 --sequence-parallel --num-layers 40 --hidden-size 5120 --ffn-hidden-size 13824 --num-attention-heads 40 --tokenizer-type Llama2Tokenizer --tokenizer-model FILE --seq-length 4096 --max-position-embeddings 4096 --micro-batch-size 4 --global-batch-size 512 --make-vocab-size-divisible-by 1 --lr 1e-6 --train-iters 5000 --lr-decay-style cosine --untie-embeddings-and-output-weights --disable-bias-linear --attention-dropout 0.0 --init-method-std 0.01 --hidden-dropout 0.0 --position-embedding-type rope --normalization RMSNorm --use-fused-rmsnorm --swiglu --use-flash-attn --no-masked-softmax-fusion --attention-softmax-in-fp32 --min-lr 1e-8 --weight-decay 1e-1 --lr-warmup-fraction 0.01 --clip-grad 1.0 --adam-beta1 0.9 --initial-loss-scale 4096 --adam-beta2 0.95 --no-gradient-accumulation-fusion --load DIR --no-load-optim --no-load-rng --use-fused-swiglu --use-fused-rotary-pos-emb --use-mc2 --bf16 --data-path PREFIX --split 949,50,1 --log-interval 1 --save-interval 10000 --eval-interval 1000 --eval-iters 10 --distributed-backend nccl --jit-compile --save OUT'
  expect(parseArguments(argv.split(' '))).toMatchObject({
    tp: 8,
    pp: 1,
    dtype: 'BF16',
    model: { numLayers: 40, hiddenSize: 5120, ffnHiddenSize: 13824, numAttentionHeads: 40, tiedEmbeddings: false },
    makeVocabSizeDivisibleBy: 1,
    seqLength: 4096,
    microBatchSize: 4,
    globalBatchSize: 512,
    trainIters: 5000,
    lr: 1e-6,
    minLr: 1e-8,
    lrDecayStyle: 'cosine',
    lrWarmupFraction: 0.01,
    weightDecay: 0.1,
    adamBeta2: 0.95,
    noLoadOptim: true,
    dataPath: 'PREFIX',
    split: '949,50,1',
    load: 'DIR',
    save: 'OUT',
    saveInterval: 10000,
    evalIters: 10,
  })
})

test.each([
  ['query_key_value dense dense_h_to_4h dense_4h_to_h', ['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2']],
  ['linear_fc2 linear_qkv', ['linear_qkv', 'linear_fc2']],
])('adapters are named as in either of Megatron’s models: %s', (modules, targets) => {
  const options = parse(`--lora-r 8 --lora-alpha 16 --lora-target-modules ${modules} --is-instruction-dataset`)
  expect(options.lora).toEqual({ r: 8, alpha: 16, targets })
  expect(options.isInstructionDataset).toBe(true)
})

test('values may follow =, be negative or come as lists; the last of a name wins', () => {
  const options = parse(
    '--seed=7 --tokenizer-kwargs eos_token <end> --initial-loss-scale -1 --lr=0.5 --lr 0.25 --valid-data-path held/out',
  )
  expect(options).toMatchObject({ seed: 7, lr: 0.25, validDataPath: 'held/out', split: '100,0,0' })
})

describe('refused', () => {
  test.each([
    ['--trian-iters 5', 'invalid-input', 'Is --train-iters meant?'],
    ['--constructor', 'invalid-input', '--constructor is not an argument'],
    ['pretrain_gpt.py', 'invalid-input', 'Argument 13 is "pretrain_gpt.py"'],
    ['--seed', 'invalid-input', '--seed needs a value.'],
    ['--seed --finetune', 'invalid-input', '--seed needs a value.'],
    ['--seed 1 2', 'invalid-input', 'Argument 15 is "2"'],
    ['--finetune=yes', 'invalid-input', '--finetune takes no value.'],
    ['--train-iters 2.5', 'invalid-input', '--train-iters 2.5: expected a whole number.'],
    ['--lr 0x10', 'invalid-input', '--lr 0x10: expected a number.'],
    ['--lr fast', 'invalid-input', '--lr fast: expected a number.'],
    ['--train-iters 0', 'invalid-input', '--train-iters 0: expected 1 or more.'],
    ['--global-batch-size 3', 'invalid-input', 'global batch size (3) is not divisible by micro batch size (2).'],
    ['--max-position-embeddings 64', 'invalid-input', '--max-position-embeddings 64 is less than --seq-length 128.'],
    ['--min-lr 1', 'invalid-input', 'expected 0 ≤ min-lr ≤ lr'],
    ['--lr-warmup-iters 10', 'invalid-input', 'The warm-up takes 10 of 10 iterations'],
    ['--lr-warmup-iters 1 --lr-warmup-fraction 0.1', 'invalid-input', 'choose one'],
    ['--bf16 --fp16', 'invalid-input', 'choose one'],
    ['--save out', 'invalid-input', '--save needs --save-interval'],
    ['--lr-decay-style inverse-square-root', 'invalid-input', 'expected cosine, linear, constant'],
    ['--lora-r 8', 'invalid-input', '--lora-r needs --lora-target-modules'],
    ['--lora-target-modules wqkv', 'invalid-input', '--lora-target-modules wqkv: expected query_key_value'],
    ['--valid-data-path held --split 90,10,0', 'invalid-input', 'choose one'],
    ['--data-path 0.3 a 0.7 b', 'unsupported', 'no weighted blend'],
    ['--hidden-dropout 0.1', 'unsupported', '--hidden-dropout 0.1: the embedded trainer can do 0 alone.'],
    ['--position-embedding-type alibi', 'unsupported', 'can do rope alone'],
    ['--context-parallel-size 2', 'unsupported', 'can do 1 alone'],
    [
      '--num-experts 8',
      'unsupported',
      '--num-experts asks for a mixture of experts, which the embedded trainer cannot do.',
    ],
    ['--num-layers-per-virtual-pipeline-stage 2', 'unsupported', 'pipeline stages of other than equal'],
    ['--sliding-window 4096', 'unsupported', 'attention over a part of the context'],
  ])('%s', (more, code, message) => {
    expect(() => parse(more)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }))
  })

  test.each(['load', 'data-path', 'seq-length', 'micro-batch-size', 'train-iters', 'lr'])(
    'a command line without --%s',
    flag => {
      const words = minimal.split(' ')
      const at = words.indexOf(`--${flag}`)
      expect(() => parseArguments([...words.slice(0, at), ...words.slice(at + 2)])).toThrow(`--${flag} is missing.`)
    },
  )
})
