import { WatchPolicy } from '../../src/ascendspeed/watch-policy.ts'
import { watchTraining } from '../../src/ascendspeed/watch-training.ts'

const megabytes = 100
const limitSeconds = 2

const iteration = (n: number) =>
  ` [2024-07-20 11:22:33] iteration ${String(n).padStart(8)}/  500000 | consumed samples: ${String(n * 512).padStart(12)} | elapsed time per iteration (ms): 8123.4 | learning rate: 1.250000E-06 | global batch size:   512 | lm loss: 2.345678E+00 | loss scale: 1.0 | grad norm: 1.234 | number of skipped iterations:   0 | number of nan iterations:   0 |`
const others = [
  '[Rank 0] (after 2 iterations) memory (MB) | allocated: 31250.5 | max allocated: 52133.1 | reserved: 55000.0 | max reserved: 55000.0',
  '(min, max) time across ranks (ms):',
  '    forward-backward ...............................: (8012.31, 8013.44)',
  '    optimizer-clip-main-grad .......................: (12.31, 13.44)',
  '  num_attention_heads ............................. 40',
  '/usr/local/python3.9/site-packages/torch_npu/utils/storage.py:38: UserWarning: TypedStorage is deprecated.',
  '[W CompilerDepend.ts:51] Warning: CAUTION: The operator aten::_foreach is not supported',
  'saving checkpoint at iteration     100 to /home/ma-user/work/saved in torch format',
  '  successfully saved checkpoint at iteration     100 to /home/ma-user/work/saved',
]

/** Time to read a log of 100 MB as a run does: bytes to lines, metrics, alarms, what the failure could be. */
export async function bench(): Promise<void> {
  for (const [name, every] of [
    ['iterations only', 1],
    ['one line in ten an iteration', 10],
  ] as const) {
    const log = makeLog(every)
    // The first megabyte warms the compiler up.
    readLog(log.subarray(0, 1_000_000))
    const [started, before] = [performance.now(), process.cpuUsage()]
    const { lines, news } = readLog(log)
    const [wall, { user, system }] = [(performance.now() - started) / 1_000, process.cpuUsage(before)]
    const seconds = (user + system) / 1e6
    console.log(
      `${name}: ${megabytes} MB, ${lines} lines, ${news} pieces of news: ${seconds.toFixed(2)} s of processor time, ${wall.toFixed(2)} s in all (limit of both ${limitSeconds} s)`,
    )
    if (Math.max(seconds, wall) > limitSeconds) process.exitCode = 1
  }
}

function makeLog(every: number): Buffer {
  const log = Buffer.alloc(megabytes * 1e6, '\n')
  for (let at = 0, n = 1; at < log.length; n++)
    at += 1 + log.write(n % every === 0 ? iteration(n / every) : others[n % others.length]!, at, 'latin1')
  return log
}

/** As executors read: a block at a time. */
function readLog(log: Buffer): { lines: number; news: number } {
  const watch = watchTraining(
    { policy: WatchPolicy.parse({}), seqLength: 4096, globalBatchSize: 512 },
    { launch: { nodes: 1, devicesPerNode: 8 }, startedAt: 0 },
  )
  const block = 64 * 1024
  let [count, news, rest] = [0, 0, '']
  for (let at = 0; at < log.length; at += block) {
    const lines = (rest + log.toString('utf8', at, Math.min(log.length, at + block))).split('\n')
    rest = lines.pop()!
    for (const text of lines) news += watch.read({ text, at: at }).length
    count += lines.length
  }
  return { lines: count, news }
}
