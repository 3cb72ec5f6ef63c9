import type { DeviceFacts } from '../layout/device-facts.ts'
import type { ModelShape } from '../layout/training-shape.ts'
import { iterationFlops } from '../layout/training-time.ts'
import type { IterationLine } from './iteration-line.ts'

/** Numbers of a training after an iteration: the values of `step.metrics` for `train`. Absent: not printed, or not known. */
export interface TrainingMetrics {
  readonly iteration: number
  readonly trainIters: number
  /** Mean over the iterations since the last line. */
  readonly loss?: number
  readonly gradNorm?: number
  /** The rate of the next iteration. */
  readonly learningRate?: number
  readonly lossScale?: number
  readonly consumedSamples?: number
  /** Since the last line, updates that were not made. */
  readonly skippedIterations?: number
  readonly nanIterations?: number
  /** Without saving and measuring. */
  readonly elapsedMsPerIteration?: number
  readonly tokensPerSecond?: number
  /** The guide's tokens/s/p; absent for a job without devices. */
  readonly tokensPerSecondPerDevice?: number
  /** As printed, otherwise from the model. */
  readonly tflopsPerDevice?: number
  /** Share of the devices' peak that the model's operations come to (MFU); needs the run's `premises.device`. */
  readonly modelFlopsUtilization?: number
  /** Until the last iteration, at the last 20 iterations' median pace, without saving and measuring. */
  readonly etaSeconds?: number
  /** Since the job began, this attempt alone. */
  readonly deviceHours?: number
  /** Of `deviceHours`, in the currency of the run's `premises.pricePerDeviceHour`. */
  readonly price?: number
}

/** What a training's numbers are worked out from. */
export interface TrainingFacts {
  readonly seqLength: number
  /** NPUs of all nodes; 0 for a job that uses none. */
  readonly devices: number
  /** Used where a line does not say it. */
  readonly globalBatchSize: number
  readonly model?: ModelShape | undefined
  readonly device?: DeviceFacts | undefined
  readonly pricePerDeviceHour?: number | undefined
}

/**
 * The numbers that follow from one iteration line.
 * tokens/s/p is `globalBatchSize · seqLength / (devices · elapsed ms) · 1000`: the guide's formula.
 * @param paceMs Milliseconds of a usual iteration.
 * @param ranMs Milliseconds that the job has been running.
 */
export function trainingMetrics(
  line: IterationLine,
  facts: TrainingFacts,
  { paceMs, ranMs }: { readonly paceMs: number | undefined; readonly ranMs: number },
): TrainingMetrics {
  const { elapsedMsPerIteration, iteration, trainIters } = line
  const { seqLength, devices, model, device, globalBatchSize = facts.globalBatchSize } = { ...facts, ...line }
  const seconds = elapsedMsPerIteration ? elapsedMsPerIteration / 1_000 : undefined
  const tokensPerSecond = seconds && (globalBatchSize * seqLength) / seconds
  const flops = seconds && devices > 0 && model && iterationFlops(model, { globalBatchSize, seqLength })
  const flopsPerDevice = flops ? flops / (devices * seconds) : undefined
  return defined({
    ...{ iteration, trainIters, loss: line.loss, gradNorm: line.gradNorm, learningRate: line.learningRate },
    ...{ lossScale: line.lossScale, consumedSamples: line.consumedSamples },
    ...{ skippedIterations: line.skippedIterations, nanIterations: line.nanIterations, elapsedMsPerIteration },
    tokensPerSecond,
    tokensPerSecondPerDevice: devices > 0 && tokensPerSecond ? tokensPerSecond / devices : undefined,
    tflopsPerDevice: line.tflopsPerDevice ?? (flopsPerDevice && flopsPerDevice / 1e12),
    modelFlopsUtilization: flopsPerDevice && device ? flopsPerDevice / device.peakFlops : undefined,
    etaSeconds: paceMs === undefined ? undefined : (Math.max(0, trainIters - iteration) * paceMs) / 1_000,
    ...deviceCost(ranMs, facts),
  })
}

/** Device-hours and their price, as far as they are known. */
export function deviceCost(
  ms: number,
  { devices, pricePerDeviceHour }: Pick<TrainingFacts, 'devices' | 'pricePerDeviceHour'>,
): { readonly deviceHours?: number; readonly price?: number } {
  if (devices === 0) return {}
  const deviceHours = (devices * Math.max(0, ms)) / 3_600_000
  return { deviceHours, ...(pricePerDeviceHour === undefined ? {} : { price: deviceHours * pricePerDeviceHour }) }
}

function defined(
  values: { readonly [key in keyof TrainingMetrics]: TrainingMetrics[key] | undefined },
): TrainingMetrics {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as unknown as TrainingMetrics
}
