import { closeSync, openSync, readSync } from 'node:fs'

/** Where a row stands: `line 12`, or `row group 0, row 7`, with its byte where known. */
export interface Place {
  readonly place: string
  readonly offset?: number
}

/** The line that byte `offset` of a file stands in, counted from 1. Reads the file up to there: for messages only. */
export function linePlace(file: string, offset: number): { readonly place: string; readonly offset: number } {
  const descriptor = openSync(file, 'r')
  try {
    const piece = Buffer.allocUnsafe(1 << 20)
    let line = 1
    for (let position = 0; position < offset; ) {
      const count = readSync(descriptor, piece, 0, Math.min(piece.length, offset - position), position)
      if (count === 0) break
      for (let i = piece.indexOf(0x0a); i >= 0 && i < count; i = piece.indexOf(0x0a, i + 1)) line++
      position += count
    }
    return { place: `line ${line}`, offset }
  } finally {
    closeSync(descriptor)
  }
}
