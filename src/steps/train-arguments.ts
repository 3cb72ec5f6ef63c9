import type { Word } from '../flow/launch.ts'
import { defaultWarmupFraction } from '../layout/training-schedule.ts'
import { programPath } from '../program-path.ts'
import type { MegatronDataset } from './artifacts.ts'
import type { TrainInput } from './train-input.ts'
import { scheduleOf } from './train-layout.ts'

/** The embedded trainer's command line, in Megatron's argument names. */
export function trainArguments(
  input: TrainInput,
  { iterations, save }: { readonly iterations: number; readonly save: string },
): readonly Word[] {
  const { data, validation, init, parallel, finetune = true, lora, threads } = input
  const { lrWarmupIters, lrWarmupFraction = defaultWarmupFraction, lrDecayIters, maxPositionEmbeddings } = input
  const { saveInterval, evalInterval } = scheduleOf(input, iterations)
  return [
    process.execPath,
    { read: programPath('trainer') },
    ...['--tensor-model-parallel-size', parallel?.tp ?? init.tp],
    ...['--pipeline-model-parallel-size', parallel?.pp ?? init.pp],
    ...(init.layout === 'mcore' ? ['--use-mcore-models'] : []),
    ...['--data-path', { read: data.path }],
    ...(data.instruction ? ['--is-instruction-dataset'] : []),
    ...(validation ? ['--valid-data-path', { read: validation.path }] : ['--split', '100,0,0', '--eval-iters', 0]),
    ...(validation ? ['--eval-interval', evalInterval, '--eval-iters', evalIters(validation, input)] : []),
    ...['--load', { read: init.path }, ...(finetune ? ['--finetune'] : []), '--save', { write: save }],
    ...['--seq-length', input.seqLength],
    ...(maxPositionEmbeddings === undefined ? [] : ['--max-position-embeddings', maxPositionEmbeddings]),
    ...['--micro-batch-size', input.microBatchSize, '--global-batch-size', input.globalBatchSize],
    ...['--train-iters', iterations, '--save-interval', saveInterval, '--log-interval', input.logInterval],
    ...['--lr', input.lr, '--min-lr', input.minLr, '--lr-decay-style', input.lrDecayStyle],
    ...(lrWarmupIters === undefined
      ? ['--lr-warmup-fraction', lrWarmupFraction]
      : ['--lr-warmup-iters', lrWarmupIters]),
    ...(lrDecayIters === undefined ? [] : ['--lr-decay-iters', lrDecayIters]),
    ...['--weight-decay', input.weightDecay, '--clip-grad', input.clipGrad],
    ...['--adam-beta1', input.adamBeta1, '--adam-beta2', input.adamBeta2],
    ...['--seed', input.seed],
    ...(input.dtype === 'fp32' ? [] : [`--${input.dtype}`]),
    ...(lora ? ['--lora-r', lora.r, '--lora-alpha', lora.alpha, '--lora-target-modules', ...lora.targets] : []),
    ...['--numerics', input.numerics],
    ...(threads === undefined ? [] : ['--threads', threads]),
  ]
}

/** Global batches that hold all of the validation data once. */
export function evalIters(
  { instruction, samples, tokens }: MegatronDataset,
  { seqLength, globalBatchSize }: Pick<TrainInput, 'seqLength' | 'globalBatchSize'>,
): number {
  const windows = instruction ? samples : Math.floor((tokens - 1) / seqLength)
  return Math.max(1, Math.ceil(windows / globalBatchSize))
}
