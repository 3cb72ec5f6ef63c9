import { FormatError, LayoutError, UnsupportedError } from '../errors.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import type { CopyOptions } from './block-copy.ts'
import { type Difference, differenceText } from './difference.ts'
import type { CheckpointIteration } from './megatron-folder.ts'

export interface VerifyOptions extends Pick<CopyOptions, 'signal' | 'onProgress'> {
  /** A Hugging Face folder. */
  readonly hf?: string | undefined
  /** A Megatron checkpoint folder. */
  readonly megatron?: string | undefined
  /** Iteration of the Megatron checkpoint; default what its tracker names. */
  readonly iteration?: CheckpointIteration | undefined
  /** The type that the shards were asked to store; default as in the Hugging Face model, tensor by tensor. */
  readonly dtype?: FloatDtype | undefined
  /** Default true; false compares names, shapes and types from headers alone, in milliseconds. */
  readonly contents?: boolean | undefined
  /** Differences after which the comparison ends; default 20. */
  readonly maxDifferences?: number | undefined
}

/** What a comparison gave. */
export interface Verification {
  readonly equal: boolean
  /** The first difference of each tensor on each rank, in the order of the model. */
  readonly differences: readonly Difference[]
  /** What was compared: headers alone, elements with elements, or elements with CRC-32s. */
  readonly checked: 'headers' | 'values' | 'digests'
  readonly tensors: number
  /** Bytes whose contents were compared. */
  readonly bytes: number
  toString(): string
}

/** A difference from what an opening threw; other errors pass. */
export function structural(error: unknown, path: string): Difference {
  if (error instanceof FormatError)
    return { kind: 'structure', path: error.file, expected: error.expected, found: error.found }
  if (error instanceof UnsupportedError || error instanceof LayoutError)
    return { kind: 'structure', path, expected: 'a checkpoint of a known kind', found: error.message }
  throw error
}

/** What a comparison gave, before it is told apart into equal and not. */
export type Compared = Omit<Verification, 'equal' | 'toString'>

/** The result of a comparison. */
export function verification(compared: Compared): Verification {
  const { differences, tensors, bytes, checked } = compared
  const equal = differences.length === 0
  const what = checked === 'headers' ? 'headers' : `${bytes} bytes by ${checked === 'values' ? 'value' : 'CRC-32'}`
  return {
    ...compared,
    equal,
    toString: () =>
      equal ? `✓ ${tensors} tensors are equal (${what})` : differences.map(it => `✗ ${differenceText(it)}`).join('\n'),
  }
}
