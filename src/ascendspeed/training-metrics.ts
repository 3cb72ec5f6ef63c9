import type { DeviceFacts } from '../layout/device-facts.ts'
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
  /** Until the last iteration, at the mean pace of the last 20 iterations, without saving and measuring. */
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
  /** Operations of one sample, forward and backward; absent: the model is not known. */
  readonly flopsPerSample?: number | undefined
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
  const { seqLength, devices, flopsPerSample, device } = facts
  const { elapsedMsPerIteration, globalBatchSize = facts.globalBatchSize } = line
  const metrics: { -readonly [key in keyof TrainingMetrics]: TrainingMetrics[key] } = {
    iteration: line.iteration,
    trainIters: line.trainIters,
  }
  for (const key of asPrinted) {
    const value = line[key]
    if (value !== undefined) metrics[key] = value
  }
  if (elapsedMsPerIteration) {
    const samplesPerSecond = (globalBatchSize * 1_000) / elapsedMsPerIteration
    metrics.tokensPerSecond = samplesPerSecond * seqLength
    if (devices > 0) metrics.tokensPerSecondPerDevice = metrics.tokensPerSecond / devices
    if (devices > 0 && flopsPerSample !== undefined) {
      const flopsPerDevice = (samplesPerSecond * flopsPerSample) / devices
      metrics.tflopsPerDevice ??= flopsPerDevice / 1e12
      if (device) metrics.modelFlopsUtilization = flopsPerDevice / device.peakFlops
    }
  }
  if (paceMs !== undefined) metrics.etaSeconds = (Math.max(0, line.trainIters - line.iteration) * paceMs) / 1_000
  return devices > 0 ? Object.assign(metrics, deviceCost(ranMs, facts)) : metrics
}

const asPrinted = [
  ...(['loss', 'gradNorm', 'learningRate', 'lossScale', 'consumedSamples', 'skippedIterations'] as const),
  ...(['nanIterations', 'elapsedMsPerIteration', 'tflopsPerDevice'] as const),
] as const

/** Device-hours and their price, as far as they are known. */
export function deviceCost(
  ms: number,
  { devices, pricePerDeviceHour }: Pick<TrainingFacts, 'devices' | 'pricePerDeviceHour'>,
): { readonly deviceHours?: number; readonly price?: number } {
  if (devices === 0) return {}
  const deviceHours = (devices * Math.max(0, ms)) / 3_600_000
  return { deviceHours, ...(pricePerDeviceHour === undefined ? {} : { price: deviceHours * pricePerDeviceHour }) }
}
