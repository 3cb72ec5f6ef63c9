import { inputBytes, layerActivations, layersInFlight, lossActivations } from './activation-memory.ts'
import type { DeviceFacts } from './device-facts.ts'
import { adapterParameters, rankParameters } from './memory-parameters.ts'
import { type SettledTraining, settleTraining, type TrainingShape } from './training-shape.ts'

/** Bytes of one rank, by what they are for. */
export interface MemoryParts {
  readonly weights: number
  readonly gradients: number
  /** Main weights in float32 and Adam's two moments. */
  readonly optimizer: number
  /** Kept between forward and backward pass, over all micro batches in flight, with their inputs. */
  readonly activations: number
  /** What the computing layer or the loss needs besides; the larger of the two. */
  readonly working: number
  /** Buffers of HCCL's communicators and of pipeline messages. */
  readonly communication: number
  /** The runtime's context and the operators' workspace. */
  readonly framework: number
  /** Stated margin on all that the allocator holds: fragmentation, and what the count leaves out. */
  readonly margin: number
}

export interface StageMemory {
  readonly stage: number
  /** Parameters of one rank of this stage, without adapters. */
  readonly parameters: number
  readonly parts: MemoryParts
  /** The sum of the parts. */
  readonly bytes: number
}

export interface TrainingMemory {
  /** The stages that can be the fullest: of those that are alike the first, which holds the most micro batches. */
  readonly stages: readonly StageMemory[]
  /** The fullest of them. */
  readonly peak: StageMemory
  /** What the device has, and what of it would be left; negative when it does not fit. */
  readonly usableBytes: number
  readonly spareBytes: number
  readonly fits: boolean
}

/** Share of what PyTorch allocates that is added to it, in every answer of `fits`. */
export const memoryMargin = 0.08

/**
 * Share of a distributed optimizer's state that is added besides: measured runs have that much more in use, the more
 * the fewer replicas share the state (docs/planning.md).
 */
const distributedOptimizerMargin = 0.5

/** HCCL_BUFFSIZE is 200 MB by default, and each communicator has one buffer in and one out. Source: HCCL's guide. */
const communicatorBytes = 2 * 200 * 2 ** 20

/** Context of one process and workspace of its operators. Inferred: what measured runs take beyond the count. */
const frameworkBytes = 3 * 2 ** 30

/**
 * The most memory that training takes on any rank, and whether a device has it.
 *
 * Meant to be safe rather than sharp: "fits" includes `memoryMargin`, and measured runs lie below it (docs/planning.md).
 * Bytes per trained parameter: 2 weight, 4 gradient (2 with fp16 unless accumulated in fp32), 12 optimizer, which the
 * distributed optimizer cuts by dp · cp. Sources: Megatron-LM core_r0.6.0, docs/source/distrib_optimizer.md and
 * megatron/training/theoretical_memory_usage.py; Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054).
 * @throws LayoutError for numbers that cannot be a layout.
 */
export function trainingMemory(training: TrainingShape, device: DeviceFacts): TrainingMemory {
  const settled = settleTraining(training)
  const stages = settled.unlikeStages.map(stage => stageMemory(settled, stage))
  const peak = stages.reduce((most, stage) => (stage.bytes > most.bytes ? stage : most))
  const spareBytes = device.usableBytes - peak.bytes
  return { stages, peak, usableBytes: device.usableBytes, spareBytes, fits: spareBytes >= 0 }
}

/** Bytes of one rank of one stage. */
export function stageMemory(training: SettledTraining, stage: number): StageMemory {
  const { model, tp, pp } = training
  const part = rankPart(training, stage)
  const parameters = rankParameters(model, part)
  const adapters =
    training.lora === undefined ? 0 : adapterParameters(model, { tp, layers: part.layers, rank: training.lora })
  const trained = training.lora === undefined ? parameters : adapters
  const layer = layerActivations(training)
  const flight = layersInFlight(training, stage)
  const inputs = flight.microBatches * inputBytes(training) + alibiBytes(training)
  const activations = flight.kept * layer.kept + flight.recomputed * layer.keptIfRecomputed + inputs
  const layerWork = layer.working + (flight.recomputed > 0 ? layer.kept : 0)
  const working = Math.max(layerWork, part.last ? lossActivations(training) : 0)
  const weights = 2 * (parameters + adapters)
  const gradients = gradientBytes(training) * trained
  const optimizer = optimizerBytes(training) * trained
  const messages = pp > 1 ? 4 * training.chunks * layer.keptIfRecomputed : 0
  const communication = communicators(training) * communicatorBytes
  const allocated = weights + gradients + optimizer + activations + working + messages
  const margin = memoryMargin * allocated + (training.distributedOptimizer ? distributedOptimizerMargin * optimizer : 0)
  return {
    stage,
    parameters,
    parts: {
      weights,
      gradients,
      optimizer,
      activations,
      working,
      communication: communication + messages,
      framework: frameworkBytes,
      margin,
    },
    bytes: allocated + margin + communication + frameworkBytes,
  }
}

/** What one rank of a stage holds. */
export function rankPart(training: SettledTraining, stage: number) {
  const { tp, pp, paddedVocabSize } = training
  return { tp, layers: training.stageLayers(stage), first: stage === 0, last: stage === pp - 1, paddedVocabSize }
}

/** Bytes of gradient per trained parameter. */
const gradientBytes = ({ fp32Gradients }: SettledTraining) => (fp32Gradients ? 4 : 2)

/** Bytes of optimizer per trained parameter: main weight and two moments, and a float32 copy of a gradient in fp16. */
export function optimizerBytes({ fp32Gradients, distributedOptimizer, dp, cp }: SettledTraining): number {
  return (fp32Gradients ? 12 : 16) / (distributedOptimizer ? dp * cp : 1)
}

/** `--square-alibi-mask`: one bias matrix a head. */
function alibiBytes({ model, tp, seqLength }: SettledTraining): number {
  return model.alibi ? (2 * seqLength * seqLength * model.numAttentionHeads) / tp : 0
}

/**
 * Communicators that a rank uses: world, tp, pp and its embedding group, dp, cp, and tp × pp for the gradients' norm.
 * Source: Megatron-LM core_r0.6.0, core/parallel_state.py.
 */
function communicators({ tp, pp, cp, dp, worldSize }: SettledTraining): number {
  return [worldSize, tp, pp, pp, dp * cp, cp, tp * pp].filter(size => size > 1).length
}
