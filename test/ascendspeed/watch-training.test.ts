import { devices, type JobNews, type JobWatch } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { WatchPolicy } from '../../src/ascendspeed/watch-policy.ts'
import { watchTool, watchTraining } from '../../src/ascendspeed/watch-training.ts'

const second = 1_000
const minute = 60 * second

/** llama2-13b, for which ascendspeed.md 3.2 and 4.2 have the numbers. */
const model = {
  ...{ numLayers: 40, hiddenSize: 5120, ffnHiddenSize: 13_824, numAttentionHeads: 40, numQueryGroups: 40 },
  ...{ kvChannels: 128, vocabSize: 32_000 },
}

interface Told {
  readonly watch: JobWatch
  readonly news: JobNews[]
  /** Reads a line at a time in ms after the job began. */
  readonly at: (ms: number, line: string, node?: number) => readonly JobNews[]
}

function watching(policy: Partial<WatchPolicy> = {}, { evalInterval }: { evalInterval?: number } = {}): Told {
  const watch = watchTraining(
    { policy: WatchPolicy.parse(policy), seqLength: 4096, globalBatchSize: 512, model, evalInterval },
    {
      launch: { nodes: 1, devicesPerNode: 8 },
      premises: { device: devices.snt9b, pricePerDeviceHour: 10 },
      startedAt: 0,
    },
  )
  const news: JobNews[] = []
  const at = (ms: number, text: string, node?: number) => {
    const told = watch.read({ text, at: ms, node })
    news.push(...told)
    return told
  }
  return { watch, news, at }
}

const fields = 'elapsed time per iteration (ms): 20000.0 | learning rate: 1.0E-06 | global batch size:   512'
const line = (iteration: number, rest = 'lm loss: 2.000000E+00 | loss scale: 1.0 | grad norm: 1.500') =>
  ` [2024-07-20 11:22:33] iteration ${iteration}/     100 | consumed samples: ${512 * iteration} | ${fields} | ${rest} | number of skipped iterations:   0 | number of nan iterations:   0 |`

/** `n` iterations of 20 s, the first at the end of a minute. */
function train({ at }: Told, n: number, from = 0): number {
  for (let done = from + 1; done <= from + n; done++) at(minute + done * 20 * second, line(done))
  return minute + (from + n) * 20 * second
}

describe('the numbers of an iteration', () => {
  it("are the guide's tokens/s/p, MFU by the model's operations, time left, device-hours and their price", () => {
    const { at } = watching()
    const [news] = at(90 * minute, line(10))
    const values = news?.type === 'metrics' ? news.values : {}
    // global batch size*seq_length/(devices*elapsed ms)*1000, as the guide says.
    expect(values.tokensPerSecondPerDevice).toBeCloseTo(((512 * 4096) / (8 * 20_000)) * 1000, 6)
    expect(values.tokensPerSecond).toBeCloseTo((512 * 4096) / 20, 6)
    // Megatron's num_floating_point_operations for llama2-13b, multi-head: 12·B·s·l·h²·(1 + 1.5·ffn/h + 1 + s/h + V/2lh).
    const flops =
      12 * 512 * 4096 * 40 * 5120 ** 2 * (1 + (1.5 * 13_824) / 5120 + 1 + 4096 / 5120 + 32_000 / (2 * 40 * 5120))
    expect(values.tflopsPerDevice).toBeCloseTo(flops / (8 * 20) / 1e12, 6)
    expect(values.modelFlopsUtilization).toBeCloseTo(flops / (8 * 20) / devices.snt9b.peakFlops, 9)
    expect(values).toMatchObject({ iteration: 10, trainIters: 100, loss: 2, gradNorm: 1.5, learningRate: 1e-6 })
    expect(values).toMatchObject({ etaSeconds: 90 * 20, deviceHours: 12, price: 120 })
  })

  it('are told once although two ranks print them, and lines of several nodes are mixed', () => {
    const { at } = watching()
    expect(at(minute, line(1), 1).map(({ type }) => type)).toEqual(['metrics'])
    expect(at(minute, '[Rank 0] (after 1 iterations) memory (MB) | allocated: 1.5', 0)).toEqual([])
    expect(at(minute, line(1), 0)).toEqual([])
    expect(at(2 * minute, line(2), 1).length).toBe(1)
  })
})

describe('what else the log tells', () => {
  it('is checkpoints, measurements and warnings', () => {
    const told = watching()
    told.at(0, '  successfully loaded checkpoint from /base [ t 0, p 0 ] at iteration 0')
    told.at(0, 'WARNING: something to know')
    train(told, 1)
    told.at(2 * minute, 'saving checkpoint at iteration       1 to /out in torch format')
    told.at(2 * minute, '  successfully saved checkpoint at iteration       1 to /out')
    told.at(2 * minute, ' validation loss at iteration 1 | lm loss value: 1.0E+00 | lm loss PPL: 2.7E+00 | ')
    expect(told.news.filter(({ type }) => type !== 'metrics')).toEqual([
      { type: 'checkpoint', state: 'loaded', iteration: 0, path: '/base' },
      { type: 'warning', about: 'log', text: 'WARNING: something to know' },
      { type: 'checkpoint', state: 'saving', iteration: 1, path: '/out' },
      { type: 'checkpoint', state: 'saved', iteration: 1, path: '/out' },
      { type: 'validation', iteration: 1, loss: 1, perplexity: 2.7 },
    ])
  })
})

describe('a job without progress', () => {
  it('is stopped after five of its iterations or five minutes, long before HCCL gives up after thirty', () => {
    const told = watching()
    const last = train(told, 10)
    expect(told.watch.dueAt()).toBe(last + 5 * minute)
    const slow = watching()
    for (const n of [1, 2, 3]) slow.at(n * 3 * minute, line(n).replace('20000.0', '180000.0'))
    expect(slow.watch.dueAt()).toBe(9 * minute + 15 * minute)
    const due = told.watch.dueAt()!
    expect(told.watch.overdue(due)).toMatchObject([
      {
        type: 'stop',
        failure: {
          kind: 'hang',
          cause: 'no iteration was done for 300 s after iteration 10; one takes 20 s',
          retry: 'now',
          // Nothing was saved: ten iterations of 20 s and the silence, on 8 devices at 10 an hour.
          lost: { iterations: 10, seconds: 500, deviceHours: (8 * 500) / 3600, price: (80 * 500) / 3600 },
        },
      },
    ])
  })

  it('is not kept alive by other lines than those of progress, once it trains', () => {
    const told = watching()
    const last = train(told, 3)
    told.at(last + 4 * minute, '[W] Warning: still waiting')
    expect(told.watch.dueAt()).toBe(last + 5 * minute)
    told.at(last + 4 * minute, '  successfully saved checkpoint at iteration       3 to /out')
    expect(told.watch.dueAt()).toBe(last + 9 * minute)
  })

  it('has time to start, to compile, to save, to measure and to end', () => {
    const told = watching({}, { evalInterval: 5 })
    expect(told.watch.dueAt()).toBe(20 * minute)
    told.at(10 * minute, 'building optimizer')
    expect(told.watch.dueAt()).toBe(30 * minute)
    told.at(10 * minute, '[before the start of training step] datetime: 2024-07-20 11:22:33 ')
    told.at(12 * minute, line(1))
    // The second iteration may compile once more.
    expect(told.watch.dueAt()).toBe(32 * minute)
    for (const n of [2, 3, 4]) told.at((12 + n) * minute, line(n))
    expect(told.watch.dueAt()).toBe(21 * minute)
    told.at(17 * minute, line(5))
    expect(told.watch.dueAt()).toBe(37 * minute)
    told.at(20 * minute, ' validation loss at iteration 5 | lm loss value: 1.0E+00 | lm loss PPL: 2.7E+00 | ')
    expect(told.watch.dueAt()).toBe(25 * minute)
    told.at(21 * minute, 'saving checkpoint at iteration       5 to /out')
    expect(told.watch.dueAt()).toBe(41 * minute)
    told.at(22 * minute, '[after training is done] datetime: 2024-07-20 11:22:33 ')
    expect(told.watch.dueAt()).toBe(42 * minute)
  })

  it('is only told of, or let be, where the policy says so', () => {
    const warned = watching({ hang: 'warn' })
    const due = train(warned, 3) + 5 * minute
    expect(warned.watch.overdue(due)).toMatchObject([{ type: 'warning', about: 'hang' }])
    expect(warned.watch.dueAt()).toBe(due + 5 * minute)
    expect(watching({ hang: 'ignore' }).watch.dueAt()).toBeUndefined()
    const [stopped] = watching({ hang: 'fail' }).watch.overdue(20 * minute)
    expect(stopped).toMatchObject({ type: 'stop', failure: { retry: 'never' } })
  })

  it('because one rank failed is told by what that rank said', () => {
    const told = watching()
    const last = train(told, 3)
    told.at(last, 'RuntimeError: NPU out of memory. Tried to allocate 5.03 GiB', 2)
    const [stopped] = told.watch.overdue(last + 5 * minute)
    expect(stopped).toMatchObject({
      type: 'stop',
      failure: { kind: 'device-oom', retry: 'never', evidence: { number: 4, node: 2 }, lost: { iterations: 3 } },
    })
  })

  it('that converts or preprocesses has an hour of silence', () => {
    const watch = watchTool({ launch: { nodes: 1, devicesPerNode: 0 }, startedAt: 0 })
    watch.read({ text: 'Starting saver...', at: minute })
    expect(watch.dueAt()).toBe(61 * minute)
    expect(watch.overdue(61 * minute)).toMatchObject([{ type: 'stop', failure: { kind: 'hang', retry: 'now' } }])
    watch.read({ text: "KeyError: 'lm_head.weight'", at: 61 * minute })
    expect(watch.overdue(121 * minute)).toMatchObject([{ type: 'stop', failure: { kind: 'code', retry: 'never' } }])
  })
})

describe('an alarm', () => {
  const loss = (n: number, value: string) => line(n, `lm loss: ${value} | loss scale: 1.0 | grad norm: 1.0`)
  const warnings = (told: Told) => told.news.flatMap(news => (news.type === 'warning' ? [news.text] : []))

  it.each([
    ['a loss that is NaN', line(11, 'lm loss: nan | loss scale: 1.0 | grad norm: 1.0'), 'the loss is not a number'],
    [
      'a gradient that is NaN',
      line(11, 'loss scale: 1.0 | grad norm: nan'),
      'the norm of its gradient is not a number',
    ],
    ['a counted NaN', line(11).replace('nan iterations:   0', 'nan iterations:   1'), 'the loss is not a number'],
  ])('stops the job for %s, and it is not tried again', (_, text, cause) => {
    const told = watching()
    const last = train(told, 10)
    told.at(last, '  successfully saved checkpoint at iteration       8 to /out')
    expect(told.at(last + 20 * second, text)).toMatchObject([
      { type: 'metrics' },
      {
        type: 'stop',
        failure: { kind: 'diverged', cause: `${cause} at iteration 11`, retry: 'never', lost: { iterations: 3 } },
      },
    ])
  })

  it('tells of a loss that jumps, once, until it is back', () => {
    const told = watching()
    const last = train(told, 12)
    for (const [n, value] of ['4.1E+00', '4.2E+00', '2.1E+00', '4.3E+00'].entries())
      told.at(last + n * second, loss(13 + n, value))
    expect(warnings(told)).toEqual([
      'the loss is 4.100 at iteration 13, after 2.000',
      'the loss is 4.300 at iteration 16, after 2.000',
    ])
    const strict = watching({ lossSpike: 'retry' })
    const news = strict.at(train(strict, 12) + second, loss(13, '9.0E+00'))
    expect(news.at(-1)).toMatchObject({ type: 'stop', failure: { kind: 'diverged', retry: 'now' } })
  })

  it('does not take the falling loss of a beginning for a jump', () => {
    const told = watching()
    for (let n = 1; n <= 40; n++) told.at(n * second, loss(n, String(10.4 * 0.93 ** n)))
    expect(warnings(told)).toEqual([])
  })

  it('tells of updates that are skipped one after the other', () => {
    const told = watching()
    const skip = (n: number) =>
      line(n, 'loss scale: 4096.0').replace('skipped iterations:   0', 'skipped iterations:   1')
    for (const n of [1, 2, 3, 4]) told.at(n * second, skip(n))
    told.at(5 * second, line(5))
    expect(warnings(told)).toEqual([])
    for (const n of [6, 7, 8, 9, 10, 11]) told.at(n * second, skip(n))
    expect(warnings(told)).toEqual(['5 updates in a row were skipped up to iteration 10'])
  })
})

describe('what a failure costs', () => {
  it('is counted from the checkpoint that the job began with, or the newest one since', () => {
    const told = watching()
    told.at(0, '  successfully loaded checkpoint from /out [ t 0, p 0 ] at iteration 40')
    const last = train(told, 4, 40)
    const end = { state: 'lost', at: last + 10 * second } as const
    expect(told.watch.diagnose(end)).toMatchObject({ kind: 'lost-node', lost: { iterations: 4, seconds: 90 } })
    told.at(last, '  successfully saved checkpoint at iteration      44 to /out')
    expect(told.watch.diagnose(end).lost).toMatchObject({ iterations: 0, seconds: 10 })
  })

  it('is not told of a job that did no iteration', () => {
    const told = watching()
    told.at(0, 'pretrain_gpt.py: error: unrecognized arguments: --x')
    const failure = told.watch.diagnose({ state: 'failed', exitCode: 2, at: minute })
    expect([failure.kind, failure.lost]).toEqual(['config', undefined])
  })
})
