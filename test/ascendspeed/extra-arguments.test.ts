import { describe, expect, it } from 'vitest'
import { checkExtraArgs, withExtraArgs } from '../../src/ascendspeed/extra-arguments.ts'
import type { Word } from '../../src/flow/launch.ts'
import { toolchainWork, type works } from './toolchain-work.ts'

type Work = (typeof works)[number]

const pretrain = toolchainWork('llama2-13b', 'modellink-1.1', 'pretrain')

describe('checkExtraArgs', () => {
  it('adds flags that the plan says nothing about', () => {
    const extra: readonly Word[] = [
      ...['--recompute-granularity', 'full', '--recompute-method', 'block', '--recompute-num-layers', 4],
      ...['--use-distributed-optimizer', '--tensorboard-dir', { write: '/tb' }],
    ]
    expect(checkExtraArgs(extra, pretrain)).toEqual(extra)
    expect(withExtraArgs(pretrain, extra).argv).toEqual([...pretrain.argv, ...extra])
  })

  it('drops what the plan says in the same words', () => {
    expect(checkExtraArgs(['--bf16', '--clip-grad', 1, '--split=100,0,0', '--use-mc2'], pretrain)).toEqual([
      '--use-mc2',
    ])
  })

  it.each<[readonly Word[], RegExp]>([
    [['--lr', 1e-4], /--lr 0\.0001 contradicts the plan, which says --lr 0\.000025/],
    [['--lr=1e-4'], /--lr 1e-4 contradicts the plan/],
    [['--tensor-model-parallel-size', 4], /contradicts the plan, which says --tensor-model-parallel-size 8/],
    [['--load', { read: '/other' }], /--load \/other contradicts the plan, which says --load \/mg/],
    [['--fp16'], /--fp16 contradicts the plan, which has none/],
    [['--train-samples', 100], /--train-samples 100 contradicts the plan, which has none/],
    [['--lr-warmup-iters', 10], /contradicts the plan, which has none/],
    [['--use-mcore-models'], /contradicts the plan, which has none/],
    [['--group-query-attention'], /contradicts the plan, which has none/],
    [['--context-parallel-size', 2], /contradicts the plan, which has none/],
    [['--is-instruction-dataset'], /contradicts the plan, which has none/],
    [['--lora-r', 8], /contradicts the plan, which has none/],
    [['--ckpt-step', 5], /contradicts the plan, which has none/],
    [
      ['--recompute-granularit', 'full'],
      /ModelLink 1\.1 knows no --recompute-granularit here.*--recompute-granularity/,
    ],
    [['--prompt-type', 'qwen'], /ModelLink 1\.1 knows no --prompt-type here/],
    [['--use-mc2', 'yes'], /--use-mc2 yes: --use-mc2 takes nothing after it/],
    [['--recompute-num-layers', 'four'], /--recompute-num-layers takes one whole number/],
    [['--tensorboard-dir'], /--tensorboard-dir takes one value/],
    [['--use-mc2', '--use-mc2'], /give --use-mc2 twice/],
    [['full', '--use-mc2'], /extraArgs start with 'full'/],
  ])('refuses %j', (extra, message) => {
    expect(() => checkExtraArgs(extra, pretrain)).toThrow(message)
  })

  it.each<[Work, readonly Word[], RegExp | undefined]>([
    ['text', ['--cache-dir', '/tmp/hf'], undefined],
    ['text', ['--append-eod'], /--append-eod contradicts the plan, which has none/],
    ['text', ['--output-prefix', '/elsewhere'], /which says --output-prefix \/out\/alpaca/],
    ['hfToMegatron', ['--max-queue-size', 100], undefined],
    ['hfToMegatron', ['--tensor-model-parallel-size', 8], /knows no --tensor-model-parallel-size here/],
    ['hfToMegatron', ['--params-dtype', 'fp16'], /which says --params-dtype bf16/],
    ['megatronToHf', ['--use-mcore-models'], /contradicts the plan, which has none/],
  ])('knows the flags of %s: %j', (work, extra, message) => {
    const planned = toolchainWork('llama2-13b', 'modellink-rc3', work)
    if (message) expect(() => checkExtraArgs(extra, planned)).toThrow(message)
    else expect(checkExtraArgs(extra, planned)).toEqual(extra)
  })
})
