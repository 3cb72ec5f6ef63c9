import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { parseIterationLine, parseValidationLine } from '../ascendspeed/iteration-line.ts'
import { FormatError, LayoutError } from '../errors.ts'
import { defineArtifact } from '../flow/artifact.ts'
import { defineStep, type Known } from '../flow/step.ts'
import { checkModelLayout, parallelLayout } from '../layout/parallel-layout.ts'
import { trainingIterations } from '../layout/training-iterations.ts'
import { checkpointFacts, MegatronCheckpoint, MegatronDataset } from './artifacts.ts'
import { trainArguments } from './train-arguments.ts'

/** What `train` gives: a checkpoint, with how the training went. */
export interface TrainedCheckpoint extends MegatronCheckpoint {
  /** Mean loss of the last iteration. */
  readonly loss: number
  /** Mean loss per token on the validation data, before the first and after the last iteration. */
  readonly validationLoss?: { readonly before: number; readonly after: number } | undefined
  /** Of the process that ended the training. */
  readonly tokensPerSecond: number
}

export const TrainedCheckpoint: z.ZodType<TrainedCheckpoint, TrainedCheckpoint> = defineArtifact<TrainedCheckpoint>(
  'megatron-checkpoint',
  {
    ...checkpointFacts,
    loss: z.number(),
    validationLoss: z.object({ before: z.number(), after: z.number() }).optional(),
    tokensPerSecond: z.number(),
  },
)

const size = z.number().int().positive()
const share = z.number().min(0).max(1)

const TrainInput = z.object({
  data: MegatronDataset,
  /** Data to measure on, never trained on. */
  validation: MegatronDataset.optional(),
  init: MegatronCheckpoint,
  /** Layout of the training; default: the checkpoint's. */
  parallel: z.strictObject({ tp: size.optional(), pp: size.optional() }).optional(),
  nodes: size.default(1),
  /** NPUs of each node, for the layout's arithmetic; default: as many as one model replica needs. */
  devicesPerNode: size.optional(),
  seqLength: size,
  microBatchSize: size.default(1),
  globalBatchSize: size,
  /** Passes over the data; default 1. Iterations follow from what preprocessing kept. */
  epochs: z.number().positive().optional(),
  /** Iterations, instead of `epochs`. */
  trainIters: size.optional(),
  lr: z.number().positive(),
  /** Default 0. */
  minLr: z.number().min(0).default(0),
  lrDecayStyle: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
  /** Share of the iterations that warm up; default 0.01, as in ModelLink's example scripts. */
  lrWarmupFraction: share.default(0.01),
  /** Defaults of these four: ModelLink's example scripts. */
  weightDecay: z.number().min(0).default(0.1),
  clipGrad: z.number().min(0).default(1),
  adamBeta1: share.default(0.9),
  adamBeta2: share.default(0.95),
  /** Default 1234, Megatron's. */
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .default(1234),
  /** Stored type of the shards; default bf16. */
  dtype: z.enum(['bf16', 'fp16', 'fp32']).default('bf16'),
  /** Iterations between checkpoints; default: a tenth of all, at least 10. */
  saveInterval: size.optional(),
  logInterval: size.default(1),
  /** Iterations between measurements on `validation`; default: only before the first and after the last. */
  evalInterval: size.optional(),
  /** Train adapters only. Targets are Megatron's fused linears; default all four, r 16, alpha 32. */
  lora: z
    .strictObject({
      r: size.default(16),
      alpha: z.number().positive().default(32),
      targets: z
        .array(z.enum(['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2']))
        .min(1)
        .default(['linear_qkv', 'linear_proj', 'linear_fc1', 'linear_fc2']),
    })
    .optional(),
  /** `reproducible` (default) gives the same bits on every machine; `fast` may differ in the last place. */
  numerics: z.enum(['reproducible', 'fast']).default('reproducible'),
  /** Threads of the embedded trainer; results do not depend on it. Default: up to 4. */
  threads: size.optional(),
})

export type TrainInput = z.output<typeof TrainInput>

/**
 * Trains a model with the embedded CPU trainer, as a job that resumes at its last checkpoint.
 *
 * The trainer honours AscendSpeed's contract (arguments, dataset and shard files, log lines) and computes in
 * float32 on this machine; tensor and pipeline parallel sizes only shape the shards.
 * @throws LayoutError, before anything runs, when the layout cannot be; InputError, JobError.
 */
export const train = defineStep({
  name: 'train',
  version: 1,
  input: TrainInput,
  output: TrainedCheckpoint,
  omitFromKey: ['threads'],
  check: known => {
    const facts = [checkLayout(known)]
    const iterations = iterationsOf(known)
    return [...facts, iterations === undefined ? 'iterations known after preprocessing' : `${iterations} iterations`]
  },
  foretell: ({ parallel, init, lora }) => ({
    ...{ tp: parallel?.tp ?? init?.tp, pp: parallel?.pp ?? init?.pp, layout: init?.layout },
    architecture: init?.architecture,
    ...(lora ? { loraBase: init } : {}),
  }),
}).job({
  launch: (input, { workDir }) => {
    checkLayout(input)
    return {
      argv: trainArguments(input, { iterations: iterationsOf(input)!, save: saveFolder(workDir) }),
      nodes: 1,
      devicesPerNode: 0,
    }
  },
  metricsFrom: (line, { seqLength }) => {
    const validation = parseValidationLine(line)
    if (validation) return { iteration: validation.iteration, validationLoss: validation.loss }
    const read = parseIterationLine(line)
    if (!read) return undefined
    const { iteration, trainIters, loss, learningRate, gradNorm, elapsedMsPerIteration, globalBatchSize } = read
    const tokensPerSecond =
      elapsedMsPerIteration && globalBatchSize
        ? (globalBatchSize * seqLength * 1000) / elapsedMsPerIteration
        : undefined
    const values = { iteration, trainIters, loss, learningRate, gradNorm, elapsedMsPerIteration, tokensPerSecond }
    return Object.fromEntries(
      Object.entries(values).filter((entry): entry is [string, number] => entry[1] !== undefined),
    )
  },
  collect: async ({ init, parallel, lora }, { workDir }) => {
    const path = saveFolder(workDir)
    const report = await readReport(join(path, 'train-report.json'))
    return {
      kind: 'megatron-checkpoint',
      path,
      iteration: report.iterations,
      ...{ tp: parallel?.tp ?? init.tp, pp: parallel?.pp ?? init.pp, layout: init.layout },
      architecture: init.architecture,
      ...(lora ? { loraBase: init } : {}),
      ...{ loss: report.finalLoss, validationLoss: report.validationLoss, tokensPerSecond: report.tokensPerSecond },
    }
  },
})

const saveFolder = (workDir: string) => join(workDir, 'checkpoint')

const TrainReport = z.object({
  iterations: z.number(),
  finalLoss: z.number(),
  validationLoss: z.object({ before: z.number(), after: z.number() }).optional(),
  tokensPerSecond: z.number(),
})

async function readReport(file: string): Promise<z.infer<typeof TrainReport>> {
  const parsed = TrainReport.safeParse(JSON.parse(await readFile(file, 'utf8')))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new FormatError({ file, expected: `${issue?.path.join('.')}`, found: String(issue?.message) })
}

/** Checks every number that is known against the others; returns the layout in words. */
function checkLayout(known: Known<TrainInput>): string {
  const { parallel, init, nodes = 1, microBatchSize = 1, globalBatchSize, seqLength } = known
  const tp = parallel?.tp ?? init?.tp
  const pp = parallel?.pp ?? init?.pp
  if (tp === undefined || pp === undefined) return 'layout known after conversion'
  const worldSize = nodes * (known.devicesPerNode ?? Math.ceil((tp * pp) / nodes))
  const { dp } = parallelLayout({ worldSize, tp, pp })
  const { architecture } = init ?? {}
  if (architecture) {
    const { numLayers, ffnHiddenSize, numAttentionHeads, numQueryGroups, maxPositionEmbeddings } = architecture
    if (numLayers && ffnHiddenSize && numAttentionHeads && numQueryGroups)
      checkModelLayout({ numLayers, ffnHiddenSize, numAttentionHeads, numQueryGroups }, { tp, pp })
    if (seqLength && maxPositionEmbeddings && seqLength > maxPositionEmbeddings)
      throw new LayoutError(`seqLength ${seqLength} is more than the model's ${maxPositionEmbeddings} positions.`)
  }
  const atOnce = microBatchSize * dp
  if (globalBatchSize !== undefined && globalBatchSize % atOnce !== 0) {
    const near = [Math.floor(globalBatchSize / atOnce), Math.ceil(globalBatchSize / atOnce)]
    throw new LayoutError(
      `globalBatchSize ${globalBatchSize} is not divisible by microBatchSize ${microBatchSize} × dp ${dp} = ${atOnce}.`,
      {
        hint: `${near
          .filter(times => times > 0)
          .map(times => times * atOnce)
          .join(' or ')} would be.`,
      },
    )
  }
  return `tp ${tp} · pp ${pp} · dp ${dp}`
}

/** Iterations: as given, or from what preprocessing kept; undefined while that is not known. */
function iterationsOf({
  data,
  seqLength,
  globalBatchSize,
  epochs = 1,
  trainIters,
}: Known<TrainInput>): number | undefined {
  if (trainIters !== undefined) return trainIters
  const { instruction, samples, tokens } = data ?? {}
  if (!globalBatchSize || !seqLength || samples === undefined || tokens === undefined) return undefined
  return trainingIterations(
    instruction ? { samples, globalBatchSize, epochs } : { tokens, seqLength, globalBatchSize, epochs },
  )
}
