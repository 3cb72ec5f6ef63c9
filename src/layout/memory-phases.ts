import type { DeviceFacts } from './device-facts.ts'
import { optimizerBytes, rankPart, type StageMemory, trainingMemory } from './memory.ts'
import { adapterParameters, modelParameters, rankParameters } from './memory-parameters.ts'
import { type ModelShape, type SettledTraining, settleTraining, type TrainingShape } from './training-shape.ts'

/** Memory of one phase of a job. */
export interface PhaseMemory {
  /** Bytes on the fullest device. */
  readonly deviceBytes: number
  readonly usableBytes: number
  readonly fits: boolean
  /** Host memory of the fullest node, beyond what Python and the data take. */
  readonly hostBytes: number
}

export interface JobMemory {
  readonly train: PhaseMemory
  /** Loading a checkpoint with its optimizer, before the first iteration. */
  readonly resume: PhaseMemory
  readonly save: PhaseMemory
  /** Bytes of one saved checkpoint over all its files. */
  readonly checkpointBytes: number
}

/**
 * Memory of a training job phase by phase: training, resuming, saving.
 *
 * Resume: each process of a node reads its shard into host memory (`torch.load`, `map_location='cpu'`), data-parallel
 * replicas included, and copies it onto a device that holds weights, gradients and main weights already. Save: a shard
 * is copied to the host tensor by tensor, but the distributed optimizer gathers its whole state in the host memory of
 * the first replica. Source: Megatron-LM core_r0.6.0, megatron/training/checkpointing.py:268-335 and 626-808,
 * core/optimizer/distrib_optimizer.py:697-800.
 * @throws LayoutError for numbers that cannot be a layout.
 */
export function jobMemory(training: TrainingShape, device: DeviceFacts): JobMemory {
  const settled = settleTraining(training)
  const { peak, usableBytes } = trainingMemory(training, device)
  const { tp, pp, worldSize, distributedOptimizer, dp, cp, unlikeStages } = settled
  const ranksOfNode = Math.min(worldSize, device.perNode)
  const parameters = Math.max(...unlikeStages.map(stage => saved(settled, stage).weights))
  const trained = Math.max(...unlikeStages.map(stage => saved(settled, stage).trained))
  const state = optimizerBytes({ ...settled, distributedOptimizer: false }) * trained
  // Of the first replica, whose ranks alone write and gather.
  const writers = Math.min(ranksOfNode, tp * pp)
  const tensor = 4 * settled.paddedVocabSize * settled.model.hiddenSize
  const gathered = distributedOptimizer ? writers * (state + state / (dp * cp) + state / 3) : 0
  const loaded = distributedOptimizer ? 2 * parameters * ranksOfNode + gathered : (2 * parameters + state) * ranksOfNode
  const phase = (deviceBytes: number, hostBytes: number): PhaseMemory => {
    return { deviceBytes, usableBytes, fits: deviceBytes <= usableBytes, hostBytes }
  }
  return {
    train: phase(peak.bytes, 0),
    resume: phase(restingBytes(peak) + tensor / tp, loaded),
    save: phase(restingBytes(peak), distributedOptimizer ? gathered : (writers * tensor) / tp),
    checkpointBytes: checkpointBytes(training),
  }
}

/** What a device holds between two iterations. */
function restingBytes({ parts }: StageMemory): number {
  const { weights, gradients, optimizer, communication, framework, margin } = parts
  return weights + gradients + optimizer + communication + framework + margin
}

function saved(training: SettledTraining, stage: number) {
  const part = rankPart(training, stage)
  const { lora: rank, model } = training
  const all = rankParameters(model, part)
  const trained = rank === undefined ? all : adapterParameters(model, { tp: part.tp, layers: part.layers, rank })
  return { weights: rank === undefined ? all : all + trained, trained }
}

/** Bytes of one checkpoint over all shards: weights in two bytes, and the state of the optimizer for what is trained. */
export function checkpointBytes(training: TrainingShape): number {
  const settled = settleTraining(training)
  const perTrained = optimizerBytes({ ...settled, distributedOptimizer: false, fp32Gradients: true })
  const stages = Array.from({ length: settled.pp }, (_, stage) => saved(settled, stage))
  return settled.tp * stages.reduce((sum, { weights, trained }) => sum + 2 * weights + perTrained * trained, 0)
}

/**
 * Host memory, in bytes, of converting a checkpoint between Hugging Face and Megatron.
 *
 * `native` streams: 8 MiB, whatever the model. `ascendspeed` holds the Hugging Face model in float32 (no `torch_dtype`
 * is passed), beside it the loader's Megatron model, which is made in float32, a queue of up to 50 layers and the
 * saver's models of one pipeline stage. Source: ModelLink 1.1, tools/checkpoint/loader_llama2_hf.py:188,
 * convert_ckpt.py:70, saver_megatron.py.
 */
export function conversionMemory(
  model: ModelShape,
  { engine, pp = 1 }: { readonly engine: 'native' | 'ascendspeed'; readonly pp?: number },
): number {
  if (engine === 'native') return 8 * 2 ** 20
  const parameters = modelParameters(model)
  const queued = 2 * parameters * Math.min(1, 50 / model.numLayers)
  return 4 * parameters + 4 * parameters + queued + (4 * parameters) / pp
}
