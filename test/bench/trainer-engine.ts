// One measurement of the embedded trainer, in a process of its own: the counterpart of trainer.py.
import { createEngine } from '../../src/trainer/engine.ts'
import type { EngineOptions } from '../../src/trainer/engine-options.ts'

const job: { model: EngineOptions['architecture'] & EngineOptions; threads: number; seconds: number } = JSON.parse(
  process.argv[2]!,
)
const { microBatchSize, seqLength, numerics, ...architecture } = job.model
const engine = await createEngine({
  ...{ architecture, microBatchSize, seqLength, threads: job.threads },
  ...(numerics && { numerics }),
})
for (const { name, weight } of engine.parameters) {
  if (!name.endsWith('norm.weight')) for (let i = 0; i < weight.length; i++) weight[i] = (Math.random() - 0.5) * 0.07
}
const ids = () => Int32Array.from({ length: microBatchSize * seqLength }, () => Math.random() * architecture.vocabSize)
let steps = 0
const step = async () => {
  const { loss } = await engine.accumulate(ids(), ids())
  const options = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, clipGrad: 1 }
  await engine.update({ ...options, step: ++steps })
  if (!Number.isFinite(loss)) throw new RangeError(`loss is ${loss}`)
}
// The first steps run in V8's baseline compiler.
for (let i = 0; i < 3; i++) await step()
const start = performance.now()
const before = steps
while (performance.now() - start < job.seconds * 1000) await step()
const tokensPerSecond = ((steps - before) * microBatchSize * seqLength) / ((performance.now() - start) / 1000)
console.log(JSON.stringify({ tokensPerSecond, peakBytes: process.resourceUsage().maxRSS * 1024 }))
await engine.close()
