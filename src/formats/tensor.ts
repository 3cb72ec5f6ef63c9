import type { RowReader } from './row-reader.ts'

/** Element types, by their safetensors names. */
export type Dtype = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL'

/** Bytes of one element. */
export const dtypeBytes: Readonly<Record<Dtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
}

export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
}

/** Bytes of a tensor. */
export function tensorBytes({ dtype, shape }: Pick<TensorInfo, 'dtype' | 'shape'>): number {
  return shape.reduce((a, b) => a * b, dtypeBytes[dtype])
}

/** Named tensors that are read in pieces: a Hugging Face folder, a Megatron checkpoint, a trainer's memory. */
export interface TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /**
   * Rows `start` (inclusive) to `end` (exclusive) along the first axis as row-major little-endian bytes in the
   * tensor's own dtype, in the first bytes of `into` when that is given; without it they are the caller's until the
   * next `readRows`. A vector has rows of one element. Readings with buffers of their own may overlap in time.
   */
  readonly readRows: RowReader
  close(): Promise<void>
}
