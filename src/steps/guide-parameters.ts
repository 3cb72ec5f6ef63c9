import { InputError } from '../errors.ts'

/** The hyperparameters of the vendor's training guide, under its names; each default is the guide's example. */
export interface GuideParameters {
  /** Default 4. */
  readonly MBS?: number
  /** Default 512. */
  readonly GBS?: number
  /** Default 8. */
  readonly TP?: number
  /** Default 1. */
  readonly PP?: number
  /** Default 2.5e-5. */
  readonly LR?: number
  /** Default 2.5e-6. */
  readonly MIN_LR?: number
  /** Default 4096. */
  readonly SEQ_LEN?: number
  /** Default 8192. */
  readonly MAX_PE?: number
  /** Rows of the data. Taken for the sake of the guide's scripts and not used: `preprocess` counts what it keeps. */
  readonly SN?: number
  /** Default 5. */
  readonly EPOCH?: number
  /** Instead of `EPOCH`. */
  readonly TRAIN_ITERS?: number
  /** Default 1234. */
  readonly SEED?: number
}

/** The same numbers as `train` takes them. */
export interface GuideTraining {
  readonly parallel: { readonly tp: number; readonly pp: number }
  readonly microBatchSize: number
  readonly globalBatchSize: number
  readonly lr: number
  readonly minLr: number
  readonly seqLength: number
  readonly maxPositionEmbeddings: number
  readonly seed: number
  readonly epochs?: number
  readonly trainIters?: number
}

const examples = {
  ...{ MBS: 4, GBS: 512, TP: 8, PP: 1, LR: 2.5e-5, MIN_LR: 2.5e-6, SEQ_LEN: 4096, MAX_PE: 8192 },
  ...{ SN: 1200, EPOCH: 5, SEED: 1234 },
}

/**
 * Gives the guide's parameters as `train` takes them: `train({ data, init, ...guideParameters({ GBS: 256 }) })`.
 * Source of names and defaults: the guide's table of training script parameters, for llama2-13b.
 * @throws InputError for a name that the guide does not have.
 */
export function guideParameters(given: GuideParameters = {}): GuideTraining {
  const names = [...Object.keys(examples), 'TRAIN_ITERS']
  const unknown = Object.keys(given).find(name => !names.includes(name))
  if (unknown) throw new InputError(`${unknown} is no parameter of the guide: it has ${names.join(', ')}.`)
  const { MBS, GBS, TP, PP, LR, MIN_LR, SEQ_LEN, MAX_PE, EPOCH, SEED, TRAIN_ITERS } = {
    ...{ TRAIN_ITERS: undefined },
    ...examples,
    ...given,
  }
  return {
    ...{ parallel: { tp: TP, pp: PP }, microBatchSize: MBS, globalBatchSize: GBS, lr: LR, minLr: MIN_LR },
    ...{ seqLength: SEQ_LEN, maxPositionEmbeddings: MAX_PE, seed: SEED },
    ...(TRAIN_ITERS === undefined ? { epochs: EPOCH } : { trainIters: TRAIN_ITERS }),
  }
}
