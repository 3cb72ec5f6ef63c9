import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { formatValidationLines } from '../ascendspeed/iteration-line.ts'
import { type MegatronCheckpointSource, openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import type { TrainOptions } from './arguments.ts'
import { saveCheckpoint } from './checkpoint-saving.ts'
import { type DataSets, openDataSets } from './data-sets.ts'
import { createEngine, type Engine } from './engine.ts'
import { evaluateSamples } from './evaluation.ts'
import { trainIteration } from './iteration.ts'
import { checkModelAgreement } from './model-agreement.ts'
import { type RunDefinition, type RunPosition, readResumeState, runDefinition } from './resume-state.ts'
import { type EarlierState, earlierState, frozenDigest, loadWeights, startPosition } from './run-start.ts'
import { type TrainReport, trainReportName, writeTrainReport } from './train-report.ts'
import { type Print, printDatetime, trainingLog } from './training-log.ts'

export interface TrainContext {
  /** When it aborts, the current iteration is finished and saved, and training ends. */
  readonly signal?: AbortSignal | undefined
  readonly print: Print
}

/** `stopped`: the signal ended training before all of it was done. */
export type TrainOutcome = 'finished' | 'stopped'

/**
 * Trains as Megatron's `pretrain` would with these arguments: prints its lines, writes its checkpoints, and at the
 * end `train-report.json` beside them.
 *
 * Continues from the newest complete checkpoint in `--save`, to the bit; otherwise starts from `--load`.
 * @throws InputError, UnsupportedError, FormatError, LayoutError (memory), StoreError (saving), JobError (a lost thread).
 */
export async function trainModel(options: TrainOptions, context: TrainContext): Promise<TrainOutcome> {
  const { print, signal } = context
  printWorld(options, print)
  try {
    const state = await earlierState(options)
    await using base = disposable(await openMegatronCheckpoint(options.load))
    checkModelAgreement(options, base)
    await using data = disposable(await openDataSets(options, base.architecture.vocabSize))
    const { seqLength, microBatchSize, threads, numerics, lora } = options
    await using engine = disposable(
      await createEngine({
        ...{ architecture: base.architecture, seqLength, microBatchSize, numerics },
        ...(threads !== undefined && { threads }),
        ...(lora && { lora }),
      }),
    )
    const start = await startRun({ options, context, base, data, engine }, state)
    const outcome = await train(start.run, start.position)
    if (outcome === 'stopped') printDatetime(print, 'exiting program after receiving SIGTERM.')
    return outcome
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error
    printDatetime(print, 'exiting program after receiving SIGTERM.')
    return 'stopped'
  }
}

interface Opened {
  readonly options: TrainOptions
  readonly context: TrainContext
  readonly base: MegatronCheckpointSource
  readonly data: DataSets
  readonly engine: Engine
}

interface Run extends Opened {
  readonly definition: RunDefinition
}

async function startRun(opened: Opened, state: EarlierState | undefined): Promise<{ run: Run; position: RunPosition }> {
  const { options, context, base, data, engine } = opened
  const { print, signal } = context
  const { parameters } = engine
  const from = state?.dir ?? options.load
  print(` loading checkpoint from ${from}`)
  // The state of a LoRA run holds the adapters alone; that of any other has all the weights.
  const isLoaded = state === undefined || options.lora !== undefined
  const loaded = isLoaded ? await loadWeights(parameters, base, { options, signal }) : undefined
  const definition = {
    ...runDefinition(options, { data: data.digest, model: JSON.stringify(base.architecture) }),
    ...(options.lora && { 'the frozen weights': frozenDigest(parameters) }),
  }
  const run = { ...opened, definition }
  if (state !== undefined) {
    const position = await readResumeState(state, { parameters, definition, signal })
    print(`  successfully loaded checkpoint from ${from} [ t 0, p 0 ] at iteration ${position.iteration}`)
    return { run, position }
  }
  const position = startPosition(options, loaded ?? base)
  print(`  successfully loaded checkpoint from ${from} [ t 0, p 0 ] at iteration ${position.iteration}`)
  const before = await evaluate(run, { position })
  const validationBefore = before === undefined ? {} : { validationBefore: { loss: before, on: data.validDigest } }
  return { run, position: { ...position, ...validationBefore } }
}

async function train(run: Run, start: RunPosition): Promise<TrainOutcome> {
  const { options, context, base, data, engine } = run
  const { print, signal } = context
  const { trainIters, saveInterval, save } = options
  if (start.iteration < trainIters) {
    print('training ...')
    printDatetime(print, 'before the start of training step')
  } else {
    print(`training was finished before: ${start.iteration} of ${trainIters} iterations are done`)
    if (save !== undefined && existsSync(join(save, trainReportName))) return 'finished'
  }
  const log = trainingLog(options, { architecture: base.architecture, print })
  const durations: number[] = []
  let validation: number | undefined
  let position = start
  let saved = start.iteration
  while (position.iteration < trainIters && !signal?.aborted) {
    const began = performance.now()
    const result = await trainIteration(engine, data.train, options, position)
    const ms = performance.now() - began
    durations.push(ms)
    position = result.position
    log.add(result, ms)
    const isEvaluated = position.iteration % options.evalInterval === 0
    validation = isEvaluated ? await evaluate(run, { position }) : undefined
    if (saveInterval !== undefined && position.iteration % saveInterval === 0) {
      await saveAt(run, position)
      saved = position.iteration
    }
  }
  const isDone = position.iteration >= trainIters
  if (isDone) printDatetime(print, 'after training is done')
  if (position.iteration > saved) await saveAt(run, position)
  if (!isDone) return 'stopped'
  const validationAfter = await evaluate(run, { position, set: 'validation', known: validation })
  await evaluate(run, { position, set: 'test' })
  if (signal?.aborted) return 'stopped'
  if (save !== undefined) await writeTrainReport(save, trainReport(run, position, { validationAfter, durations }))
  return 'finished'
}

interface EvaluationPlace {
  readonly position: RunPosition
  /** Set after training, as in Megatron's log. */
  readonly set?: 'validation' | 'test'
  /** The loss, where the weights have not moved since it was measured. */
  readonly known?: number | undefined
}

/** Evaluates where there is something to evaluate on; gives undefined where not, and when told to stop. */
async function evaluate(
  { options, context, data, engine }: Run,
  { position, set, known }: EvaluationPlace,
): Promise<number | undefined> {
  const samples = set === 'test' ? data.test : data.valid
  if (!samples) return undefined
  const loss = known ?? (await evaluateSamples(engine, samples, { ...options, signal: context.signal }))
  if (loss === undefined) return undefined
  for (const line of formatValidationLines({ iteration: position.iteration, loss, ...(set && { set }) }))
    context.print(line)
  return loss
}

async function saveAt({ options, context, base, engine, definition }: Run, position: RunPosition): Promise<void> {
  const { save } = options
  if (save === undefined) return
  const at = `iteration ${String(position.iteration).padStart(7)} to ${save}`
  context.print(`saving checkpoint at ${at} in torch format`)
  const { architecture, paddedVocabSize } = base
  await saveCheckpoint(save, {
    options,
    architecture,
    paddedVocabSize,
    parameters: engine.parameters,
    position,
    definition,
  })
  context.print(`  successfully saved checkpoint at ${at}`)
}

function trainReport(
  { options: { globalBatchSize, seqLength }, data }: Run,
  position: RunPosition,
  {
    validationAfter: after,
    durations,
  }: { readonly validationAfter: number | undefined; readonly durations: readonly number[] },
): TrainReport {
  const { iteration: iterations, consumedSamples, skippedIterations, lastLoss, validationBefore } = position
  const before = validationBefore?.on === data.validDigest ? { before: validationBefore.loss } : {}
  // The first iteration runs in an unoptimised compiler; it counts only where there is no other.
  const timed = durations.length > 1 ? durations.slice(1) : durations
  const ms = timed.reduce((sum, duration) => sum + duration, 0)
  const tokens = timed.length * globalBatchSize * seqLength
  return {
    iterations,
    consumedSamples,
    skippedIterations,
    ...(lastLoss !== undefined && { finalLoss: lastLoss }),
    ...(after !== undefined && { validationLoss: { ...before, after } }),
    ...(tokens > 0 && { tokensPerSecond: Number(((tokens / ms) * 1000).toPrecision(6)) }),
  }
}

function printWorld({ tp, pp }: TrainOptions, print: Print): void {
  const sizes = `tensor-model-parallel size: ${tp}, pipeline-model-parallel size: ${pp}`
  print(`using world size: ${tp * pp}, data-parallel size: 1, context-parallel size: 1 ${sizes} `)
  const written = `shards are written as TP ${tp} PP ${pp}`
  print(`embedded CPU trainer: float32 on this machine, computing TP 1 PP 1; ${written}; speed says nothing about NPUs`)
}

function disposable<T extends { close(): unknown }>(resource: T): T & AsyncDisposable {
  return Object.assign(resource, { [Symbol.asyncDispose]: async () => void (await resource.close()) })
}
