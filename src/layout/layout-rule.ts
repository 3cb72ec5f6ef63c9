import type { LayoutProposal } from './proposal.ts'

/** One rule of the toolchain. */
export interface LayoutRule {
  /** Its name, for programs. */
  readonly rule: string
  /** File and lines that enforce it. M6 is Megatron-LM core_r0.6.0, G3 ModelLink of September 2024. */
  readonly source: string
  /** True also when a number that it needs is not known. */
  readonly holds: (proposal: LayoutProposal) => boolean
  /** What is wrong, with all factors; only asked when it does not hold. */
  readonly message: (proposal: LayoutProposal) => string
  /** The numbers that may be others, the likeliest first. */
  readonly turn?: readonly Turn[]
  /** What to try besides other numbers. */
  readonly instead?: string
}

export type TurnedNumber =
  | 'tp'
  | 'pp'
  | 'cp'
  | 'worldSize'
  | 'layersPerVirtualStage'
  | 'microBatchSize'
  | 'globalBatchSize'
  | 'seqLength'

export interface Turn {
  readonly name: TurnedNumber
  /** Only multiples of this can do; default 1. */
  readonly unit?: (proposal: LayoutProposal) => number | undefined
}

/** The proposal with one number changed. */
export function turned(proposal: LayoutProposal, name: TurnedNumber, value: number): LayoutProposal {
  return name === 'microBatchSize' || name === 'globalBatchSize' || name === 'seqLength'
    ? { ...proposal, batch: { ...proposal.batch, [name]: value } }
    : { ...proposal, layout: { ...proposal.layout, [name]: value } }
}

export function numberOf({ layout, batch }: LayoutProposal, name: TurnedNumber): number | undefined {
  switch (name) {
    case 'microBatchSize':
      return batch?.microBatchSize ?? 1
    case 'globalBatchSize':
    case 'seqLength':
      return batch?.[name]
    case 'cp':
      return layout.cp ?? 1
    default:
      return layout[name]
  }
}

/** Devices of one replica of the model. */
export const replicaSize = ({ layout: { tp, pp, cp = 1 } }: LayoutProposal): number => tp * pp * cp

/** Data parallel size; undefined where the layout does not divide the devices. */
export function dataParallelSize(proposal: LayoutProposal): number | undefined {
  const replica = replicaSize(proposal)
  const dp = (proposal.layout.worldSize ?? replica) / replica
  return Number.isInteger(dp) ? dp : undefined
}

/** Samples that all replicas take at once; undefined where the layout does not divide the devices. */
export function samplesAtOnce(proposal: LayoutProposal): number | undefined {
  const dp = dataParallelSize(proposal)
  return dp && dp * (proposal.batch?.microBatchSize ?? 1)
}

/** True also when the number is not known. */
export const divides = (divisor: number, number: number | undefined): boolean =>
  number === undefined || number % divisor === 0
