import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { parseIterationLine, parseValidationLine } from '../ascendspeed/iteration-line.ts'
import { FormatError, LayoutError } from '../errors.ts'
import { defineArtifact } from '../flow/artifact.ts'
import type { Known } from '../flow/call.ts'
import { defineStep } from '../flow/step.ts'
import { checkModelLayout, parallelLayout } from '../layout/parallel-layout.ts'
import { trainingIterations } from '../layout/training-iterations.ts'
import { checkpointFacts, type MegatronCheckpoint } from './artifacts.ts'
import { trainArguments } from './train-arguments.ts'
import { TrainInput } from './train-input.ts'

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
