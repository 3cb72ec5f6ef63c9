import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { trainingOfStep } from '../../ascendspeed/step-inputs.ts'
import type { Toolchain, ToolchainCommand } from '../../ascendspeed/toolchain.ts'
import { trainCommand } from '../../ascendspeed/training-arguments.ts'
import type { Diagnosis } from '../../checkpoint/diagnose.ts'
import { repair } from '../../checkpoint/diagnose.ts'
import { type CheckpointIteration, iterationFolder, trackerPath } from '../../checkpoint/megatron-folder.ts'
import { InputError } from '../../errors.ts'
import type { EndedJob, Metrics, StepContext } from '../../flow/call.ts'
import type { Launch } from '../../flow/launch.ts'
import type { MegatronCheckpoint } from '../artifacts.ts'
import { evalIters } from '../train-arguments.ts'
import type { TrainInput } from '../train-input.ts'
import { iterationsOf, scheduleOf } from '../train-layout.ts'
import { examine, proveCheckpoint, unproved } from './evidence.ts'
import { hasRandomStates, refuseOtherIteration } from './loaded-iteration.ts'
import { toolchainLaunch } from './toolchain-fields.ts'

export type ToolchainTrainInput = TrainInput & { readonly toolchain: Toolchain }

/** True for a training that the toolchain does. */
export const isOfToolchain = (input: TrainInput): input is ToolchainTrainInput => input.toolchain !== undefined

const saveFolder = (workDir: string) => join(workDir, 'checkpoint')
const cacheFolder = (workDir: string) => join(workDir, 'cache')

/** The training's command: from `init`, or from the newest complete checkpoint that an earlier attempt left. */
export async function toolchainTrainLaunch(
  input: ToolchainTrainInput,
  { workDir }: Pick<StepContext, 'workDir'>,
): Promise<Launch> {
  const { init, lora, toolchain } = input
  const found = await examine(saveFolder(workDir), init.architecture)
  const resume = found?.newestComplete !== undefined && !toolchain.scripts
  // Adapters always need their base.
  if (!resume || lora) await refuseOtherIteration(init)
  const hasRandom = resume || input.finetune !== false || (await hasRandomStates(init))
  const launchOf = (resume: boolean) =>
    toolchainLaunch(toolchainTrainCommand(input, { workDir, resume, loadRng: resume || hasRandom }), input)
  if (resume || toolchain.scripts) return launchOf(resume)
  // The tracker is written last: where it is, there is a checkpoint to go on from.
  return { ...launchOf(false), resume: { once: trackerPath(saveFolder(workDir)), argv: launchOf(true).argv } }
}

/** The same, from what is known already: nothing is looked up. @throws UnsupportedError, LayoutError, InputError. */
export function toolchainTrainCommand(
  input: ToolchainTrainInput,
  { workDir, resume, loadRng }: { readonly workDir: string; readonly resume: boolean; readonly loadRng?: boolean },
): ToolchainCommand {
  const { tokenizer, validation, toolchain } = input
  if (tokenizer === undefined)
    throw new InputError("the toolchain trains with the tokenizer's files at hand.", {
      ...{ field: 'tokenizer', hint: "Name their folder: tokenizer: hfModel('…')." },
    })
  const trainIters = iterationsOf(input) ?? 1
  const { saveInterval, evalInterval } = scheduleOf(input, trainIters)
  const training = trainingOfStep(input, {
    ...{ tokenizer: tokenizer.path, save: saveFolder(workDir), dataCache: cacheFolder(workDir) },
    ...{ trainIters, saveInterval, resume, loadRng },
    evaluation: validation && { evalInterval, evalIters: evalIters(validation, input) },
  })
  return trainCommand(toolchain, training)
}

/**
 * Sets the folder of checkpoints back to the newest complete one, and says what that costs: the tracker may name one that
 * was torn, and ranks of such a one must not stay to be mixed with those of the next save.
 */
export async function prepareToolchainTraining(
  input: ToolchainTrainInput,
  { workDir, log, lastMetrics }: Pick<StepContext & EndedJob, 'workDir' | 'log' | 'lastMetrics'>,
): Promise<void> {
  const save = saveFolder(workDir)
  const { architecture } = input.init
  // Index caches that were being written when their writer died would be believed.
  await rm(cacheFolder(workDir), { recursive: true, force: true })
  // Whether packaged scripts would go on from there is theirs to say, so that they begin again.
  if (input.toolchain.scripts) await rm(save, { recursive: true, force: true })
  const found = await examine(save, architecture)
  if (found === undefined || found.iterations.length === 0) return
  const { newestComplete } = found
  for (const { iteration } of iterationsAfter(found))
    await rm(join(save, iterationFolder(iteration)), { recursive: true, force: true })
  if (newestComplete === undefined) await rm(trackerPath(save), { force: true })
  else await repair(save, { architecture, iteration: newestComplete })
  log(lostText(input, { newestComplete, lastMetrics }))
}

function iterationsAfter({ iterations, newestComplete }: Diagnosis): Diagnosis['iterations'] {
  return iterations.slice(1 + iterations.findIndex(({ iteration }) => iteration === newestComplete))
}

function lostText(
  input: ToolchainTrainInput,
  {
    newestComplete,
    lastMetrics,
  }: { readonly newestComplete: CheckpointIteration | undefined; readonly lastMetrics: Metrics },
): string {
  const { nodes, devicesPerNode, init, parallel, finetune } = input
  const from = Number(newestComplete ?? (finetune === false ? init.iteration : 0))
  const { iteration = from, elapsedMsPerIteration: ms } = lastMetrics
  const lost = Math.max(0, iteration - from)
  const { tp = init.tp, pp = init.pp, cp = 1 } = parallel ?? {}
  const devices = nodes * (devicesPerNode ?? Math.ceil((tp * pp * cp) / nodes))
  const hours = ms === undefined ? '' : ` (${((lost * ms * devices) / 3.6e6).toPrecision(2)} device-hours)`
  const begin =
    newestComplete === undefined
      ? 'begins again: no checkpoint is complete'
      : `goes on from iteration ${newestComplete}`
  return `${begin}; ${lost === 0 ? 'nothing after it is known to be lost' : `${lost} iteration${lost === 1 ? '' : 's'} after it ${lost === 1 ? 'is' : 'are'} lost${hours}`}`
}

/**
 * Makes sure that the training was done to its end: its log names the last iteration, and the checkpoint of that one is
 * complete. @throws JobError; another attempt may help where this one trained at all.
 */
export async function proveTraining(
  input: ToolchainTrainInput,
  context: StepContext & EndedJob,
): Promise<Pick<MegatronCheckpoint, 'path' | 'iteration' | 'tp' | 'pp'>> {
  const { init, parallel, logInterval } = input
  const { tp = init.tp, pp = init.pp } = parallel ?? {}
  const path = saveFolder(context.workDir)
  const iteration = iterationsOf(input) ?? 0
  const { lastMetrics } = context
  const trained = lastMetrics.iteration !== undefined
  const cut = await proveCheckpoint(
    context,
    { ...{ path, iteration, tp, pp }, layout: init.layout, architecture: init.architecture },
    trained,
  )
  // One that had nothing left to train, since its last checkpoint was complete, prints no iteration.
  const lastPrinted = iteration - (iteration % logInterval)
  if (lastMetrics.iteration !== undefined && lastMetrics.iteration < lastPrinted)
    throw unproved(context, {
      what: `its output ends with iteration ${lastMetrics.iteration} of ${iteration}`,
      retryable: true,
    })
  await repair(path, { architecture: init.architecture, iteration })
  return { path, iteration, ...cut }
}
