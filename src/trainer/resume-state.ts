import { FormatError, InputError } from '../errors.ts'
import { openSafetensors } from '../formats/safetensors.ts'
import { createSafetensors } from '../formats/safetensors-writer.ts'
import type { TrainOptions } from './arguments.ts'
import type { Parameter } from './parameter.ts'
import { loadValues, type NamedValues, valuesSource } from './weights.ts'

/** How far a run has come. */
export interface RunPosition {
  /** Iterations done, counted as in the checkpoint's name. */
  readonly iteration: number
  readonly consumedSamples: number
  /** Samples that the learning rate has moved by; skipped iterations do not count. */
  readonly scheduleSamples: number
  /** Updates of the weights so far: AdamW's step. */
  readonly updates: number
  readonly skippedIterations: number
  /** Skipped ones without an update since. */
  readonly skippedInARow: number
  /** Mean loss of the last iteration. */
  readonly lastLoss?: number
  /** Validation loss before the first iteration, and what it was measured on. */
  readonly validationBefore?: { readonly loss: number; readonly on: string }
}

/** What decides every number of a run, by the names that users know. */
export type RunDefinition = Readonly<Record<string, string | number>>

/** What of a command line and its files decides the run; threads, folders and the form of checkpoints do not. */
export function runDefinition(
  options: TrainOptions,
  { data, model }: { readonly data: string; readonly model: string },
): RunDefinition {
  const { lora } = options
  return {
    'the model': model,
    'the training data': data,
    '--split': options.split,
    '--is-instruction-dataset': String(options.isInstructionDataset),
    '--seq-length': options.seqLength,
    '--micro-batch-size': options.microBatchSize,
    '--global-batch-size': options.globalBatchSize,
    '--train-iters': options.trainIters,
    '--lr': options.lr,
    '--min-lr': options.minLr,
    '--lr-decay-style': options.lrDecayStyle,
    '--lr-decay-iters': options.lrDecayIters ?? options.trainIters,
    ...(options.lrWarmupFraction === undefined
      ? { '--lr-warmup-iters': options.lrWarmupIters }
      : { '--lr-warmup-fraction': options.lrWarmupFraction }),
    '--lr-warmup-init': options.lrWarmupInit,
    '--weight-decay': options.weightDecay,
    '--clip-grad': options.clipGrad,
    '--adam-beta1': options.adamBeta1,
    '--adam-beta2': options.adamBeta2,
    '--adam-eps': options.adamEps,
    '--seed': options.seed,
    '--numerics': options.numerics,
    ...(lora && {
      '--lora-r': lora.r,
      '--lora-alpha': lora.alpha,
      '--lora-target-modules': lora.targets.join(' '),
    }),
  }
}

/**
 * Writes what training goes on from: trainable weights and both moments in float32, the position, the definition.
 *
 * Equal runs give equal files. `path` must not exist; write it in a temporary place.
 */
export async function writeResumeState(
  path: string,
  state: {
    readonly parameters: readonly Parameter[]
    readonly position: RunPosition
    readonly definition: RunDefinition
  },
): Promise<void> {
  const source = valuesSource(stateValues(state.parameters))
  const metadata = { position: JSON.stringify(state.position), definition: JSON.stringify(state.definition) }
  const writer = await createSafetensors(path, [...source.tensors.values()], { metadata })
  try {
    for (const name of writer.order) {
      const rows = source.tensors.get(name)?.shape[0] ?? 1
      const step = Math.ceil(rows / 16)
      for (let row = 0; row < rows; row += step) {
        await writer.write(name, await source.readRows(name, row, Math.min(rows, row + step)))
      }
    }
    await writer.finish()
  } catch (error) {
    await writer.close().catch(() => {})
    throw error
  }
}

/** What has to be the same for a run to go on from another's state. */
const sameInAny = ['the model', 'the frozen weights', '--lora-r', '--lora-alpha', '--lora-target-modules']

/**
 * Brings `parameters` back to where a state left them and gives the position, if the run is the same; when it is another
 * that goes on from there, only the model and its adapters have to be.
 * @throws InputError naming each argument that differs, with both values; FormatError on a damaged file.
 */
export async function readResumeState(
  { file: path, isOwn }: { readonly file: string; readonly isOwn: boolean },
  {
    parameters,
    definition,
    signal,
  }: {
    readonly parameters: readonly Parameter[]
    readonly definition: RunDefinition
    readonly signal?: AbortSignal | undefined
  },
): Promise<RunPosition> {
  const file = await openSafetensors(path)
  try {
    checkDefinition(path, parseRecord(path, file.metadata.definition), { now: definition, isOwn })
    const position = parseRecord(path, file.metadata.position)
    for (const field of [
      'iteration',
      'consumedSamples',
      'scheduleSamples',
      'updates',
      'skippedIterations',
      'skippedInARow',
    ]) {
      if (!Number.isSafeInteger(position[field]) || (position[field] as number) < 0) {
        throw new FormatError({ file: path, expected: `a whole number as ${field}`, found: String(position[field]) })
      }
    }
    await loadValues(file, stateValues(parameters), { from: path, signal })
    return position as unknown as RunPosition
  } finally {
    await file.close()
  }
}

function stateValues(parameters: readonly Parameter[]): NamedValues[] {
  return parameters.flatMap(({ name, shape, weight, firstMoment, secondMoment }) =>
    firstMoment && secondMoment
      ? [
          { name: `weight.${name}`, shape, values: weight },
          { name: `first_moment.${name}`, shape, values: firstMoment },
          { name: `second_moment.${name}`, shape, values: secondMoment },
        ]
      : [],
  )
}

function checkDefinition(
  path: string,
  before: Readonly<Record<string, unknown>>,
  { now, isOwn }: { readonly now: RunDefinition; readonly isOwn: boolean },
): void {
  const differences = [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .filter(name => before[name] !== now[name] && (isOwn || sameInAny.includes(name)))
    .map(name => `${name} was ${before[name] ?? 'not given'} and is now ${now[name] ?? 'not given'}`)
  if (differences.length > 0) {
    throw new InputError(`${path} belongs to another run: ${differences.join('; ')}.`, {
      hint: 'Give the arguments of that run to continue it, or another --save to start anew.',
    })
  }
}

function parseRecord(path: string, text: string | undefined): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text ?? '')
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {}
  throw new FormatError({
    file: path,
    expected: 'the position and definition of a run in its metadata',
    found: text ?? 'none',
  })
}
