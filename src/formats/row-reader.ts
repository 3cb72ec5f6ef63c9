import type { FilePlace } from './file-place.ts'

/** Reads rows of named tensors, as `TensorSource` says; where they lie in files as they are, it says where. */
export interface RowReader {
  (name: string, start: number, end: number, into?: Uint8Array): Promise<Uint8Array>
  /** What the tensor is put together from, for a thread that reads it by itself; undefined where rows are computed. */
  readonly pieces?: ((name: string) => readonly StoredPiece[] | undefined) | undefined
}

/** A rectangle of a tensor that lies in a file, row after row without gaps. */
export interface StoredPiece extends RowRange {
  readonly place: FilePlace
}

/** Rows `row` to `row + rows` of a tensor, columns `column` to `column + columns` of them; a vector has one column. */
export interface RowRange {
  readonly row: number
  readonly rows: number
  readonly column: number
  readonly columns: number
  /** Another rectangle has the same rows too and counts; this one must have equal values. */
  readonly isReplica?: true
}

/** Reads each tensor by the reader that `readerOf` names for it. */
export function readerByName(readerOf: (name: string) => RowReader): RowReader {
  const readRows: RowReader = async (name, ...rest) => readerOf(name)(name, ...rest)
  return Object.assign(readRows, { pieces: (name: string) => readerOf(name).pieces?.(name) })
}
