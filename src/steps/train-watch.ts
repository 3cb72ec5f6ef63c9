import { watchTraining } from '../ascendspeed/watch-training.ts'
import type { JobWatch, WatchFacts } from '../flow/job-watch.ts'
import { modelShape } from './train-estimate.ts'
import type { TrainInput } from './train-input.ts'
import { iterationsOf, scheduleOf } from './train-layout.ts'

/** Watches one job of `train`, whoever trains. */
export function watchTrainInput(input: TrainInput, facts: WatchFacts): JobWatch {
  const { watch: policy, seqLength, globalBatchSize, init, validation } = input
  const iterations = iterationsOf(input)
  const evalInterval = validation && iterations ? scheduleOf(input, iterations).evalInterval : undefined
  const model = modelShape(init.architecture)
  return watchTraining({ policy, seqLength, globalBatchSize, model, evalInterval }, facts)
}
