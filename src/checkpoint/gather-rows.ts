import { FormatError } from '../errors.ts'
import { readPlace, readPlaceSync } from '../formats/file-place.ts'
import type { StoredPiece } from '../formats/row-reader.ts'
import { dtypeBytes, type TensorInfo } from '../formats/tensor.ts'
import { copyRows } from './copy-rows.ts'

/** Rows of a tensor, and where they go. */
export interface WantedRows {
  readonly tensor: TensorInfo
  /** What the tensor is put together from. */
  readonly pieces: readonly StoredPiece[]
  readonly start: number
  readonly end: number
  readonly out: Uint8Array
}

/**
 * Puts rows of a tensor together from the files that hold parts of it. Copies of key/value groups are compared; a
 * FormatError says when they differ.
 */
export function rowGatherer(): (wanted: WantedRows) => Promise<void> {
  const spares: Uint8Array[] = []
  return async wanted => {
    // Not one for all: readings may overlap in time.
    let spare = spares.pop() ?? new Uint8Array(0)
    for (const reading of readings(wanted)) {
      const { piece, at, length, isPlaced, target } = reading
      if (spare.length < length && !isPlaced) spare = new Uint8Array(length)
      const bytes = isPlaced ? target : spare.subarray(0, length)
      await readPlace(piece.place, at, bytes)
      if (!isPlaced) put(bytes, reading, wanted.tensor)
    }
    spares.push(spare)
  }
}

/** As `rowGatherer`, on the calling thread. `spare` is as long as `out`; quickest when it lies in the same buffer. */
export function gatherRowsSync(wanted: WantedRows, spare: Uint8Array): void {
  for (const reading of readings(wanted)) {
    const bytes = reading.isPlaced ? reading.target : spare.subarray(0, reading.length)
    readPlaceSync(reading.piece.place, reading.at, bytes)
    if (!reading.isPlaced) put(bytes, reading, wanted.tensor)
  }
}

/** What is read at once of one piece. */
interface Reading {
  readonly piece: StoredPiece
  readonly at: number
  readonly length: number
  /** The whole rows in `out` of which the piece has a part. */
  readonly target: Uint8Array
  /** Whether the bytes are the target's as they are. */
  readonly isPlaced: boolean
}

function readings({ tensor, pieces, start, end, out }: WantedRows): readonly Reading[] {
  const size = dtypeBytes[tensor.dtype]
  const rowBytes = (tensor.shape[1] ?? 1) * size
  const found: Reading[] = []
  for (const piece of pieces) {
    const from = Math.max(start, piece.row)
    const to = Math.min(end, piece.row + piece.rows)
    if (from >= to) continue
    const pieceBytes = piece.columns * size
    found.push({
      ...{ piece, at: (from - piece.row) * pieceBytes, length: (to - from) * pieceBytes },
      target: out.subarray((from - start) * rowBytes, (to - start) * rowBytes),
      isPlaced: pieceBytes === rowBytes && !piece.isReplica,
    })
  }
  return found
}

function put(bytes: Uint8Array, { piece, target }: Reading, tensor: TensorInfo): void {
  if (piece.isReplica) {
    if (Buffer.compare(bytes, target) !== 0) refuseReplica(piece.place.path, tensor.name)
    return
  }
  const size = dtypeBytes[tensor.dtype]
  const length = piece.columns * size
  const steps = { rows: bytes.length / length, length, fromStep: length, toStep: (tensor.shape[1] ?? 1) * size }
  copyRows(bytes, target.subarray(piece.column * size), steps)
}

// Each copy gets its own gradient unless the training sums them: then the model has come to have more groups.
function refuseReplica(file: string, name: string): never {
  throw new FormatError({
    file,
    expected: `the copies of a key/value group in '${name}' to be equal on all ranks that hold one`,
    found: 'another value: they were trained apart, and the model has as many groups as ranks now',
  })
}
