import { formatIterationLine } from '../ascendspeed/iteration-line.ts'
import type { Architecture } from '../models/architecture.ts'
import type { TrainOptions } from './arguments.ts'
import type { IterationResult } from './iteration.ts'

/** Takes a line of the log, without its end. */
export type Print = (line: string) => void

export interface TrainingLog {
  /** Notes an iteration that took `ms`, saving and evaluating left out; prints a line when the interval is full. */
  add(result: IterationResult, ms: number): void
}

/** Megatron's training log: one line every `logInterval` iterations, means over the advanced ones among them. */
export function trainingLog(
  options: TrainOptions,
  { architecture, print }: { architecture: Architecture; print: Print },
): TrainingLog {
  const none = { lossSum: 0, advanced: 0, skipped: 0, elapsedMs: 0 }
  let sums = none
  return {
    add(result, ms) {
      const { skipped } = result
      sums = {
        lossSum: sums.lossSum + (skipped ? 0 : result.loss),
        advanced: sums.advanced + (skipped ? 0 : 1),
        skipped: sums.skipped + (skipped ? 1 : 0),
        elapsedMs: sums.elapsedMs + ms,
      }
      const { iteration, consumedSamples } = result.position
      if (iteration % options.logInterval !== 0) return
      const elapsedMsPerIteration = sums.elapsedMs / (sums.advanced + sums.skipped)
      print(
        formatIterationLine({
          timestamp: timestamp(new Date()),
          iteration,
          trainIters: options.trainIters,
          consumedSamples,
          elapsedMsPerIteration,
          ...(options.logThroughput && {
            tflopsPerDevice: floatingPointOperations(architecture, options) / (elapsedMsPerIteration * 1e9),
          }),
          learningRate: result.learningRate,
          globalBatchSize: options.globalBatchSize,
          loss: sums.lossSum / Math.max(1, sums.advanced),
          lossScale: 1,
          ...(!skipped && { gradNorm: result.gradNorm }),
          skippedIterations: sums.skipped,
          nanIterations: 0,
        }),
      )
      sums = none
    },
  }
}

/** Prints when something happened, as Megatron's `print_datetime`. */
export function printDatetime(print: Print, event: string): void {
  print(`[${event}] datetime: ${timestamp(new Date())} `)
}

/** Of one iteration, forward and backward. Source: Megatron-LM core_r0.6.0, `num_floating_point_operations`. */
function floatingPointOperations(model: Architecture, { globalBatchSize, seqLength }: TrainOptions): number {
  const { numLayers, hiddenSize, ffnHiddenSize, numQueryGroups, numAttentionHeads, vocabSize } = model
  const perLayer =
    1 +
    (ffnHiddenSize / hiddenSize) * 1.5 +
    numQueryGroups / numAttentionHeads +
    seqLength / hiddenSize +
    vocabSize / (2 * numLayers * hiddenSize)
  return 12 * globalBatchSize * seqLength * numLayers * hiddenSize * hiddenSize * perLayer
}

/** `YYYY-MM-DD HH:MM:SS` in the machine's time zone. */
function timestamp(now: Date): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join('-')
  return `${date} ${[now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join(':')}`
}
