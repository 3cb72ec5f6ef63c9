import { join } from 'node:path'
import { writeWhole } from '../formats/atomic-file.ts'

/** What a finished run leaves for the program that started it. */
export interface TrainReport {
  /** Iterations done, as the last checkpoint counts them. */
  readonly iterations: number
  readonly consumedSamples: number
  readonly skippedIterations: number
  /** Mean loss of the last iteration; absent when none was run. */
  readonly finalLoss?: number
  /**
   * Mean loss over the same samples before the first and after the last iteration; absent without validation data,
   * `before` also when the run was continued with other validation data.
   */
  readonly validationLoss?: { readonly before?: number; readonly after: number }
  /** Speed of the process that finished, its first iteration left out if it ran another; absent when it ran none. */
  readonly tokensPerSecond?: number
}

/** Name of the report in the folder of `--save`. */
export const trainReportName = 'train-report.json'

/** Writes the report whole or not at all. */
export async function writeTrainReport(save: string, report: TrainReport): Promise<void> {
  await writeWhole(join(save, trainReportName), `${JSON.stringify(report, null, 2)}\n`)
}
