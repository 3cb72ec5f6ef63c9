import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const threads = 2
const rounds = 3
const small = {
  ...{ family: 'llama', numLayers: 2, hiddenSize: 128, ffnHiddenSize: 352, vocabSize: 2048 },
  ...{ numAttentionHeads: 4, numQueryGroups: 2, kvChannels: 32, maxPositionEmbeddings: 128 },
  ...{ normEpsilon: 1e-5, rotaryBase: 10_000, tiedEmbeddings: false, addQkvBias: false },
  ...{ microBatchSize: 4, seqLength: 128 },
}
const medium = {
  ...{ ...small, numLayers: 4, hiddenSize: 256, ffnHiddenSize: 688, vocabSize: 4096 },
  ...{ numAttentionHeads: 8, numQueryGroups: 4, microBatchSize: 8 },
}
const cases = [
  { name: 'S, 0.9M parameters', model: small, seconds: 3, speedTarget: 0.6 },
  { name: 'M, 5.0M parameters', model: medium, seconds: 6, speedTarget: 0.4 },
]

interface Measurement {
  readonly tokensPerSecond: number
  readonly peakBytes: number
}

/**
 * Full training steps (forward, backward, clip, AdamW) of the embedded trainer, and of the same model in PyTorch where a
 * Python with torch is found; taken in turns, so that a busy machine disturbs both alike. Medians.
 */
export async function bench(): Promise<void> {
  const python = await findPython()
  console.log(`trainer, ${threads} threads${python ? '' : '; no Python with torch found, so no yardstick'}`)
  for (const { name, model, seconds, speedTarget } of cases) {
    const engines: Measurement[] = []
    const fast: Measurement[] = []
    const yardsticks: Measurement[] = []
    for (let round = 0; round < rounds; round++) {
      engines.push(await measureEngine({ model, threads, seconds }))
      fast.push(await measureEngine({ model: { ...model, numerics: 'fast' }, threads, seconds }))
      if (python)
        yardsticks.push(await measure(python, [here('trainer.py'), JSON.stringify({ model, threads, seconds })]))
    }
    const yardstick = python === undefined ? undefined : median(yardsticks)
    console.log(name)
    report('  reproducible', median(engines), yardstick)
    report('  fast', median(fast), yardstick)
    if (yardstick) report('  PyTorch', yardstick)
    if (yardstick) console.log(`  targets: at least ${speedTarget}x the speed, at most 0.6x the memory`)
  }
}

function report(name: string, { tokensPerSecond, peakBytes }: Measurement, yardstick?: Measurement): void {
  const speed = `${Math.round(tokensPerSecond)} tokens/s`.padStart(16)
  const memory = `${Math.round(peakBytes / 2 ** 20)} MiB`.padStart(9)
  const speedRatio = yardstick && `${(tokensPerSecond / yardstick.tokensPerSecond).toFixed(2)}x speed`
  const memoryRatio = yardstick && `${(peakBytes / yardstick.peakBytes).toFixed(2)}x memory`
  console.log(`${name.padEnd(16)}${speed}${memory}  ${yardstick ? `${speedRatio}, ${memoryRatio}` : ''}`)
}

function measureEngine(job: object): Promise<Measurement> {
  return measure(process.execPath, ['--import', 'tsx', here('trainer-engine.ts'), JSON.stringify(job)])
}

async function measure(program: string, args: readonly string[]): Promise<Measurement> {
  const { stdout } = await promisify(execFile)(program, args)
  return JSON.parse(stdout)
}

function median(of: readonly Measurement[]): Measurement {
  const middle = (key: keyof Measurement) => of.map(each => each[key]).sort((a, b) => a - b)[of.length >> 1]!
  return { tokensPerSecond: middle('tokensPerSecond'), peakBytes: middle('peakBytes') }
}

async function findPython(): Promise<string | undefined> {
  const candidates = [process.env.ASCENDFLOW_PYTHON, fileURLToPath(new URL('../../.venv/bin/python', import.meta.url))]
  const found = candidates.find(path => path !== undefined && path !== '' && existsSync(path)) ?? 'python3'
  const check = promisify(execFile)(found, ['-c', 'import torch'])
  return check.then(
    () => found,
    () => undefined,
  )
}

function here(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url))
}
