import { describe, expect, it } from 'vitest'
import { type LogLine, longestLine, parseLogLine } from '../../src/ascendspeed/log-line.ts'
import { seededRandom } from '../layout/seeded-random.ts'

const iteration = (text: string) =>
  ` iteration        7/      20 | consumed samples:          112 | elapsed time per iteration (ms): 2000.0 | ${text}`

/** Lines of the toolchain's generations and what they say; sources: ascendspeed.md, sections 3.4 and 3.5. */
const lines: readonly (readonly [what: string, line: string, read: Partial<LogLine> | undefined])[] = [
  [
    'an iteration of ModelLink',
    ` [2024-07-20 11:22:33]${iteration('learning rate: 1.0E-06 |')}`,
    { kind: 'iteration' },
  ],
  [
    'an iteration of AscendSpeed 2023',
    iteration('actual seqlen:  4096 | samples per second: 8.0 |'),
    { kind: 'iteration' },
  ],
  [
    'a validation while training',
    ' validation loss at iteration 200 | lm loss value: 2.345678E+00 | lm loss PPL: 1.044035E+01 | ',
    { kind: 'validation', validation: { iteration: 200, loss: 2.345678, perplexity: 10.44035 } },
  ],
  [
    'a validation after training',
    ' validation loss at iteration 40 on test set | lm loss value: 2.5E+00 | lm loss PPL: 1.2E+01 | ',
    { kind: 'validation', validation: { iteration: 40, set: 'test', loss: 2.5, perplexity: 12 } },
  ],
  [
    'a save that begins',
    'saving checkpoint at iteration     100 to /data/my runs/ckpt in torch format',
    { kind: 'checkpoint', state: 'saving', iteration: 100, path: '/data/my runs/ckpt' },
  ],
  [
    'a save that begins, of ModelLink 1.0',
    'saving checkpoint at iteration     100 to /data/ckpt',
    { kind: 'checkpoint', state: 'saving', iteration: 100, path: '/data/ckpt' },
  ],
  [
    'a save that is done',
    '  successfully saved checkpoint at iteration     100 to /data/ckpt',
    { kind: 'checkpoint', state: 'saved', iteration: 100, path: '/data/ckpt' },
  ],
  [
    'a checkpoint that is loaded',
    '  successfully loaded checkpoint from /data/ckpt [ t 0, p 0 ] at iteration 100',
    { kind: 'checkpoint', state: 'loaded', iteration: 100, path: '/data/ckpt' },
  ],
  [
    'a checkpoint that is loaded, without its ranks',
    '  successfully loaded checkpoint from /data/ckpt at iteration 0',
    { kind: 'checkpoint', state: 'loaded', iteration: 0, path: '/data/ckpt' },
  ],
  [
    'the first iteration being near',
    '[before the start of training step] datetime: 2024-07-20 11:22:33 ',
    { kind: 'training' },
  ],
  ['the end', '[after training is done] datetime: 2024-07-20 11:22:33 ', { kind: 'ending' }],
  ['a stop', '[exiting program at iteration 50] datetime: 2024-07-20 11:22:33', { kind: 'ending' }],
  ['a stop after minutes', '[exiting program after 60 minutes] datetime: 2024-07-20 11:22:33', { kind: 'ending' }],
  [
    'a warning',
    'WARNING: could not find the metadata file /data/ckpt/latest_checkpointed_iteration.txt ',
    { kind: 'warning', text: 'WARNING: could not find the metadata file /data/ckpt/latest_checkpointed_iteration.txt' },
  ],
  ['colours and a rank before a line', `\x1b[32m[rank7]:\x1b[0m${iteration('')}`, { kind: 'iteration' }],
  ['a progress bar that was drawn over', `10%|#     |\r 20%|##    |\r${iteration('')}`, { kind: 'iteration' }],
  ['a memory report', '[Rank 0] (after 2 iterations) memory (MB) | allocated: 1.5 | max allocated: 2.5 ', undefined],
  ['a timer', '    forward-backward ...............................: (8012.31, 8013.44)', undefined],
  ['an argument', '  train_iters ..................................... 5000', undefined],
  ['a warning of a library', '/usr/lib/x.py:3: UserWarning: TypedStorage is deprecated', undefined],
  ['nothing', '', undefined],
]

describe('a line of the log', () => {
  it.each(lines)('is read: %s', (_, line, read) => {
    if (read === undefined) expect(parseLogLine(line)).toBeUndefined()
    else expect(parseLogLine(line)).toMatchObject(read)
  })

  it('is read from 100,000 damaged, joined and random lines without a crash', () => {
    const random = seededRandom(20_240_720)
    const below = (n: number) => random.whole(0, n - 1)
    const pick = () => lines[below(lines.length)]![1]
    const noise = () => String.fromCodePoint([below(128), below(0x800), below(0xd800), 0x1f600 + below(50)][below(4)]!)
    const damage: readonly ((line: string) => string)[] = [
      line => line.slice(below(line.length + 1)),
      line => line.slice(0, below(line.length + 1)),
      line => {
        const at = below(line.length + 1)
        return line.slice(0, at) + noise().repeat(1 + below(30)) + line.slice(at + below(5))
      },
      line => line + pick(),
      line => line.replaceAll(/\d+/g, () => String((1 + below(9)) * 10 ** below(300)).repeat(1 + below(4))),
      () => Array.from({ length: below(80) }, noise).join(''),
      line => line.replaceAll('|', ['', '||', '|:', ':|'][below(4)]!),
    ]
    const kinds = new Map<string, number>()
    for (let n = 0; n < 100_000; n++) {
      const read = parseLogLine(damage[below(damage.length)]!(pick()))
      kinds.set(read?.kind ?? 'nothing', (kinds.get(read?.kind ?? 'nothing') ?? 0) + 1)
      if (read?.kind === 'iteration') expect(Number.isNaN(read.iteration.iteration)).toBe(false)
    }
    // The damage leaves some of every kind.
    expect([...kinds.keys()].sort()).toEqual([
      ...['checkpoint', 'ending', 'iteration', 'nothing', 'training', 'validation', 'warning'],
    ])
  })

  it.each([
    ' ',
    '\r',
    '\x1b[',
    '[2024-07-20 11:22:33] ',
    'iteration ',
    'iteration 1',
    '| lm loss: 1 ',
    'saving checkpoint at iteration 1 to ',
  ])('of a megabyte of "%s" takes no time to speak of', piece => {
    const line = piece.repeat(1_000_000 / piece.length)
    const started = process.cpuUsage()
    for (let n = 0; n < 20; n++) parseLogLine(line)
    parseLogLine(line.slice(0, longestLine))
    // Processor time: other work on the machine does not count.
    const { user, system } = process.cpuUsage(started)
    expect((user + system) / 1000).toBeLessThan(1_000)
  })
})
