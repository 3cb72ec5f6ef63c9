import { LayoutError } from '../errors.ts'

export interface TrainingPriceOptions {
  readonly iterations: number
  readonly secondsPerIteration: number
  readonly devices: number
  /** What one device costs an hour, in any currency; absent where it is not known. */
  readonly pricePerDeviceHour?: number | undefined
  /** Seconds of one save, during which training waits. Default 0. */
  readonly saveSeconds?: number | undefined
  /** Iterations between two saves; default none but the last. */
  readonly saveInterval?: number | undefined
  /** Seconds from the start of the job to its first iteration. Default 0. */
  readonly startSeconds?: number | undefined
  /** Mean hours between two failures of one device; default: it never fails. */
  readonly deviceHoursPerFailure?: number | undefined
}

export interface TrainingPrice {
  /** Hours until the last iteration, with saves, start and expected failures. */
  readonly hours: number
  readonly deviceHours: number
  /** In the currency of `pricePerDeviceHour`; absent without it. */
  readonly price?: number
  /** What one failure costs: half an interval done again, and another start. */
  readonly resume: { readonly hours: number; readonly price?: number }
  readonly expectedFailures: number
}

/** Time and price of a whole training, with saves and expected failures. */
export function trainingPrice(options: TrainingPriceOptions): TrainingPrice {
  const { iterations, secondsPerIteration, devices, pricePerDeviceHour } = options
  const { saveSeconds = 0, saveInterval = iterations, startSeconds = 0, deviceHoursPerFailure } = options
  positive({ iterations, secondsPerIteration, devices, saveInterval })
  const hours = (seconds: number) => seconds / 3600
  const saves = Math.ceil(iterations / saveInterval)
  const busy = hours(startSeconds + iterations * secondsPerIteration + saves * saveSeconds)
  const lost = hours(startSeconds + (Math.min(saveInterval, iterations) * secondsPerIteration) / 2)
  const rate = deviceHoursPerFailure === undefined ? 0 : devices / deviceHoursPerFailure
  // A failure while repeating lost work is one more failure: the geometric sum of both.
  if (rate * lost >= 1)
    throw new LayoutError(
      `A failure every ${(1 / rate).toFixed(2)} h costs ${lost.toFixed(2)} h: such a training never ends. Save more often.`,
    )
  const total = busy / (1 - rate * lost)
  const priced = (deviceHours: number) =>
    pricePerDeviceHour === undefined ? {} : { price: deviceHours * pricePerDeviceHour }
  return {
    hours: total,
    deviceHours: total * devices,
    ...priced(total * devices),
    resume: { hours: lost, ...priced(lost * devices) },
    expectedFailures: total * rate,
  }
}

export interface CheckpointIntervalOptions {
  readonly saveSeconds: number
  readonly secondsPerIteration: number
  readonly devices: number
  readonly deviceHoursPerFailure: number
}

/**
 * Iterations between two saves that lose the least time to saving and to failures.
 * Source: Daly 2006, "A higher order estimate of the optimum checkpoint interval", equation 37; Young 1974 is its first term.
 * @throws LayoutError for a number that is not above 0.
 */
export function checkpointInterval(options: CheckpointIntervalOptions): number {
  const { saveSeconds, secondsPerIteration, devices, deviceHoursPerFailure } = options
  positive({ saveSeconds, secondsPerIteration, devices, deviceHoursPerFailure })
  const betweenFailures = (deviceHoursPerFailure * 3600) / devices
  const ratio = saveSeconds / (2 * betweenFailures)
  const seconds =
    ratio < 1
      ? Math.sqrt(2 * saveSeconds * betweenFailures) * (1 + Math.sqrt(ratio) / 3 + ratio / 9) - saveSeconds
      : betweenFailures
  return Math.max(1, Math.round(seconds / secondsPerIteration))
}

function positive(values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values))
    if (!(value > 0 && Number.isFinite(value))) throw new LayoutError(`${name} is ${value}; it must be above 0.`)
}
