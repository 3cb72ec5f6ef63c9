import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { iterationFolder, trackerPath } from '../checkpoint/megatron-folder.ts'
import { trainerStateName } from '../checkpoint/trainer-state.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import { StoreError } from '../errors.ts'
import { flush, writeWhole } from '../formats/atomic-file.ts'
import { pickleFloat } from '../formats/pickle-value.ts'
import type { Architecture } from '../models/architecture.ts'
import type { TrainOptions } from './arguments.ts'
import type { Parameter } from './parameter.ts'
import { type RunDefinition, type RunPosition, writeResumeState } from './resume-state.ts'
import { valuesSource, weightValues } from './weights.ts'

export interface CheckpointContent {
  readonly options: TrainOptions
  readonly architecture: Architecture
  readonly paddedVocabSize: number
  readonly parameters: readonly Parameter[]
  readonly position: RunPosition
  readonly definition: RunDefinition
}

/** Folder inside `--save` in which a checkpoint is made; what a killed process left there is of no use. */
const scratchName = '.saving'

/**
 * Saves one iteration in `save`: shards as asked for, with the trainer's own state beside them, then the tracker.
 *
 * The iteration's folder appears complete or not at all; a folder that no tracker names is replaced.
 * @throws StoreError when it cannot be written (disk full, say); earlier checkpoints and the tracker stay as they are.
 */
export async function saveCheckpoint(save: string, content: CheckpointContent): Promise<void> {
  const { options, architecture, paddedVocabSize, parameters, position, definition } = content
  const folder = iterationFolder(position.iteration)
  const scratch = join(save, scratchName)
  const { tp, pp, layout, dtype, lora, load } = options
  try {
    await rm(scratch, { recursive: true, force: true })
    await mkdir(scratch, { recursive: true })
    await writeMegatronCheckpoint(scratch, {
      source: valuesSource(weightValues(parameters)),
      architecture,
      parallel: { tp, pp },
      layout,
      iteration: position.iteration,
      dtype,
      paddedVocabSize,
      consumedTrainSamples: position.consumedSamples,
      extraArgs: trainingArgs(options),
      ...(lora && { lora: { ...lora, base: load } }),
    })
    await writeResumeState(join(scratch, folder, trainerStateName), { parameters, position, definition })
    await flush(join(scratch, folder))
    await rm(join(save, folder), { recursive: true, force: true })
    await rename(join(scratch, folder), join(save, folder))
    await flush(save)
    await writeWhole(trackerPath(save), String(position.iteration))
    await rm(scratch, { recursive: true, force: true })
  } catch (cause) {
    await rm(scratch, { recursive: true, force: true }).catch(() => {})
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new StoreError(
      `The checkpoint of iteration ${position.iteration} could not be saved in ${save}: ${why.replace(/\.?$/, '.')}`,
      {
        hint: 'Checkpoints saved before are intact; make room and start again to continue from the last one.',
        cause,
      },
    )
  }
}

/** What a Megatron training run stores in `args` beside the facts of the model. */
function trainingArgs(options: TrainOptions) {
  return {
    seq_length: options.seqLength,
    encoder_seq_length: options.seqLength,
    micro_batch_size: options.microBatchSize,
    global_batch_size: options.globalBatchSize,
    train_iters: options.trainIters,
    lr: pickleFloat(options.lr),
    min_lr: pickleFloat(options.minLr),
    lr_decay_style: options.lrDecayStyle,
    weight_decay: pickleFloat(options.weightDecay),
    clip_grad: pickleFloat(options.clipGrad),
    adam_beta1: pickleFloat(options.adamBeta1),
    adam_beta2: pickleFloat(options.adamBeta2),
    adam_eps: pickleFloat(options.adamEps),
    seed: options.seed,
    split: options.split,
    data_path: [options.dataPath],
    is_instruction_dataset: options.isInstructionDataset,
    finetune: options.finetune,
    load: options.load,
    save: options.save ?? null,
    save_interval: options.saveInterval ?? null,
  }
}
