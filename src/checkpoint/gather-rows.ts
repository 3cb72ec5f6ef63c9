import { FormatError } from '../errors.ts'
import type { PlaceAccess } from '../formats/file-place.ts'
import type { StoredPiece } from '../formats/row-reader.ts'
import { dtypeBytes, type TensorInfo } from '../formats/tensor.ts'
import { copyRows } from './copy-rows.ts'

/** Fills `out` with rows `start` to `end` of a tensor. `spare` is as long as `out` and may be written to. */
export type GatherRows = (
  tensor: TensorInfo,
  pieces: readonly StoredPiece[],
  rows: { start: number; end: number; out: Uint8Array; spare?: Uint8Array },
) => Promise<void>

/**
 * Puts rows of a tensor together from the files that hold parts of it. Copies of key/value groups are compared; a
 * FormatError says when they differ.
 */
export function rowGatherer(read: PlaceAccess): GatherRows {
  const scratches: Uint8Array[] = []
  return async ({ name, dtype, shape }, pieces, { start, end, out, spare }) => {
    const size = dtypeBytes[dtype]
    const rowBytes = (shape[1] ?? 1) * size
    // Not one for all: readings may overlap in time.
    let scratch = spare ?? scratches.pop() ?? new Uint8Array(0)
    for (const { place, row, rows, column, columns, isReplica } of pieces) {
      const from = Math.max(start, row)
      const to = Math.min(end, row + rows)
      if (from >= to) continue
      const pieceBytes = columns * size
      const at = (from - row) * pieceBytes
      const target = out.subarray((from - start) * rowBytes, (to - start) * rowBytes)
      if (pieceBytes === rowBytes && !isReplica) {
        await read(place, at, target)
        continue
      }
      const length = (to - from) * pieceBytes
      if (scratch.length < length) scratch = new Uint8Array(length)
      const piece = scratch.subarray(0, length)
      await read(place, at, piece)
      if (isReplica) {
        if (Buffer.compare(piece, target) !== 0) refuseReplica(place.path, name)
        continue
      }
      const steps = { rows: to - from, length: pieceBytes, fromStep: pieceBytes, toStep: rowBytes }
      copyRows(piece, target.subarray(column * size), steps)
    }
    if (spare === undefined) scratches.push(scratch)
  }
}

// Each copy gets its own gradient unless the training sums them: then the model has come to have more groups.
function refuseReplica(file: string, name: string): never {
  throw new FormatError({
    file,
    expected: `the copies of a key/value group in '${name}' to be equal on all ranks that hold one`,
    found: 'another value: they were trained apart, and the model has as many groups as ranks now',
  })
}
