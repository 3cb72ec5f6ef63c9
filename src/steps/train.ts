import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { FormatError, JobError } from '../errors.ts'
import { defineArtifact } from '../flow/artifact.ts'
import type { In } from '../flow/ref.ts'
import { defineStep } from '../flow/step.ts'
import { checkpointFacts, type MegatronCheckpoint } from './artifacts.ts'
import { reshard } from './reshard.ts'
import { checkToolchainTraining } from './toolchain/check-training.ts'
import { isOfToolchain, prepareToolchainTraining, proveTraining, toolchainTrainLaunch } from './toolchain/train-job.ts'
import { trainArguments } from './train-arguments.ts'
import { estimateTraining } from './train-estimate.ts'
import { TrainInput } from './train-input.ts'
import { checkTraining, cutAnew, iterationsOf, scheduleFacts } from './train-layout.ts'
import { watchTrainInput } from './train-watch.ts'

/** What `train` gives: a checkpoint, with how the training went. */
export interface TrainedCheckpoint extends MegatronCheckpoint {
  /** Mean loss of the last iteration; absent when it was not counted (no label, or a skipped update). */
  readonly loss?: number | undefined
  /** Mean loss per token on the validation data, before the first and after the last iteration. */
  readonly validationLoss?: ValidationLoss | undefined
  /** Of the process that ended the training; absent when it had nothing left to train. */
  readonly tokensPerSecond?: number | undefined
}

/** `before` is absent when the training was continued with other validation data. */
export interface ValidationLoss {
  readonly before?: number | undefined
  readonly after: number
}

const results = {
  loss: z.number().optional(),
  validationLoss: z.object({ before: z.number().optional(), after: z.number() }).optional(),
  tokensPerSecond: z.number().optional(),
}

export const TrainedCheckpoint: z.ZodType<TrainedCheckpoint, TrainedCheckpoint> = defineArtifact<TrainedCheckpoint>(
  'megatron-checkpoint',
  { ...checkpointFacts, ...results },
)

/**
 * Trains a model, as a job that resumes at its last checkpoint: with the embedded CPU trainer, or with `toolchain` on
 * NPUs.
 *
 * The embedded trainer honours AscendSpeed's contract (arguments, dataset and shard files, log lines) and computes in
 * float32 on this machine; tensor and pipeline parallel sizes only shape the shards.
 * @throws LayoutError, before anything runs, when the layout cannot be; InputError, JobError.
 */
export const train = defineStep({
  name: 'train',
  version: 1,
  input: TrainInput,
  output: TrainedCheckpoint,
  omitFromKey: ['threads', 'watch'],
  check: known => [checkTraining(known), ...scheduleFacts(known), ...checkToolchainTraining(known)],
  warn: ({ toolchain, init, parallel, nodes, devicesPerNode }, executor) => {
    if (!executor) return []
    const { name, devicesPerNode: there } = executor
    if (!toolchain)
      return there
        ? [`${name} has ${there} NPUs, which the embedded trainer leaves idle: name a toolchain to train on them.`]
        : []
    const { tp = init?.tp, pp = init?.pp, cp = 1 } = parallel ?? {}
    const needed = devicesPerNode ?? (tp && pp && Math.ceil((tp * pp * cp) / (nodes ?? 1)))
    return there === undefined
      ? [`${name} does not say how many NPUs it has; the job is started as if there were ${needed ?? 'enough'}.`]
      : []
  },
  estimate: estimateTraining,
  summarize: ({ iteration, loss, validationLoss, tokensPerSecond }) => [
    `${iteration} iterations`,
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(3)}`]),
    ...(validationLoss
      ? [
          `validation loss ${[validationLoss.before, validationLoss.after].flatMap(n => n?.toFixed(3) ?? []).join(' → ')}`,
        ]
      : []),
    ...(tokensPerSecond === undefined ? [] : [`${Math.round(tokensPerSecond).toLocaleString('en')} tokens/s`]),
  ],
  foretell: known => {
    const { init, parallel, lora, toolchain } = known
    const { layout, architecture, layersPerStage, layersPerVirtualStage } = init ?? {}
    const { tp = init?.tp, pp = init?.pp } = parallel ?? {}
    const stages = toolchain ? { layersPerStage, layersPerVirtualStage } : {}
    const base = lora ? { loraBase: init } : {}
    return { iteration: iterationsOf(known), tp, pp, ...stages, layout, architecture, ...base }
  },
  insert: (known, { init }) => {
    const parallel = known.init?.loraBase ? undefined : cutAnew(known)
    const optimizer = known.finetune === false ? ('carry' as const) : ('drop' as const)
    return parallel && { init: reshard({ checkpoint: init as In<MegatronCheckpoint>, parallel, optimizer }) }
  },
}).job({
  launch: (input, { workDir }) => {
    checkTraining(input)
    if (isOfToolchain(input)) return toolchainTrainLaunch(input, { workDir })
    return {
      argv: trainArguments(input, { iterations: iterationsOf(input)!, save: saveFolder(workDir) }),
      nodes: 1,
      devicesPerNode: 0,
    }
  },
  prepare: (input, context) => (isOfToolchain(input) ? prepareToolchainTraining(input, context) : undefined),
  watch: watchTrainInput,
  collect: async (input, context) => {
    const { init, parallel, lora, validation } = input
    const { tp = init.tp, pp = init.pp } = parallel ?? {}
    const facts = { layout: init.layout, architecture: init.architecture, ...(lora ? { loraBase: init } : {}) }
    if (isOfToolchain(input)) {
      const { loss, tokensPerSecond, validationLoss } = context.lastMetrics
      const measured = validation && validationLoss !== undefined ? { after: validationLoss } : undefined
      const results = { loss, tokensPerSecond, validationLoss: measured }
      return { kind: 'megatron-checkpoint', ...(await proveTraining(input, context)), ...facts, ...results }
    }
    const path = saveFolder(context.workDir)
    const { iterations, finalLoss, ...report } = await readReport(join(path, 'train-report.json'))
    return { kind: 'megatron-checkpoint', path, iteration: iterations, tp, pp, ...facts, loss: finalLoss, ...report }
  },
})

const saveFolder = (workDir: string) => join(workDir, 'checkpoint')

/** Written by the trainer; see `trainer/train-report.ts`. */
const TrainReport = z.object({ iterations: z.number(), ...results, finalLoss: results.loss }).omit({ loss: true })

async function readReport(file: string): Promise<z.infer<typeof TrainReport>> {
  const text = await readFile(file, 'utf8').catch(cause => {
    throw new JobError('The trainer was stopped before its last iteration.', {
      ...{ executor: 'embedded trainer', job: 'train', retryable: true, logTail: [], cause },
      hint: 'It goes on from its last checkpoint when the same graph is run again.',
    })
  })
  const parsed = TrainReport.safeParse(JSON.parse(text))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new FormatError({ file, expected: `${issue?.path.join('.')}`, found: String(issue?.message) })
}
