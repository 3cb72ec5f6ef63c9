import { LayoutError, UnsupportedError } from '../errors.ts'
import type { Known } from '../flow/call.ts'
import { checkModelLayout, parallelLayout } from '../layout/parallel-layout.ts'
import { trainingIterations } from '../layout/training-iterations.ts'
import type { Architecture } from '../models/architecture.ts'
import type { TrainInput } from './train-input.ts'

/** Checks every number that is known against the others; returns the layout in words. */
export function checkLayout(known: Known<TrainInput>): string {
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
  refuseOtherAttention(architecture ?? {}, seqLength)
  if ((init?.tp ?? tp) !== tp || (init?.pp ?? pp) !== pp)
    throw new LayoutError(
      `training at tp ${tp} · pp ${pp} does not fit weights cut at tp ${init?.tp} · pp ${init?.pp}.`,
      {
        hint: 'Convert with the same parallel sizes, or leave parallel out here.',
      },
    )
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
export function iterationsOf({
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

/** The embedded trainer computes full attention with plain RoPE. */
function refuseOtherAttention(model: Known<Architecture>, seqLength = 0): void {
  const { ropeScaling, rotaryPercent, alibi, qkNorm, slidingWindow } = model
  const found = [
    ropeScaling && `RoPE scaling '${ropeScaling}'`,
    rotaryPercent && `RoPE on ${rotaryPercent} of each head`,
    alibi && 'ALiBi',
    qkNorm && 'norms of query and key heads',
    slidingWindow &&
      seqLength > slidingWindow &&
      `a window of ${slidingWindow} tokens, less than seqLength ${seqLength},`,
  ].find(Boolean)
  if (found)
    throw new UnsupportedError(`the model has ${found} which the embedded trainer does not compute.`, {
      hint: 'It can be converted, but not trained here.',
    })
}
