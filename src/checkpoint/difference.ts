import { printable } from './printable.ts'

/** A range of rows or columns, `end` exclusive. */
export interface Extent {
  readonly start: number
  readonly end: number
}

/** How two checkpoints, or a checkpoint and its manifest, differ. Tell differences apart by `kind`. */
export type Difference =
  | {
      /** One side cannot be opened, or lacks a tensor, or has one of another shape: the file and what was expected. */
      readonly kind: 'structure'
      readonly path: string
      readonly expected: string
      readonly found: string
    }
  | {
      readonly kind: 'dtype'
      /** Hugging Face name. */
      readonly tensor: string
      readonly path: string
      readonly expected: string
      readonly found: string
    }
  | {
      readonly kind: 'values'
      /** Hugging Face name. */
      readonly tensor: string
      /** The smallest slice of the Hugging Face tensor, as far as this rank holds it, that has all different elements. */
      readonly rows: Extent
      readonly columns: Extent
      /** The rank that holds them, its file, and the tensor's name and rows there. */
      readonly rank: { readonly tp: number; readonly stage: number }
      readonly path: string
      readonly key: string
      readonly shardRows: Extent
      /** The rows are padding of the vocabulary, copies of the last row. */
      readonly isPadding: boolean
    }
  | {
      readonly kind: 'digest'
      /** Name in the file. */
      readonly tensor: string
      readonly path: string
      readonly expected: string
      readonly found: string
    }

/** One line of text for a difference. */
export function differenceText(difference: Difference): string {
  if (difference.kind !== 'values') {
    const { path, expected, found } = difference
    const tensor = difference.kind === 'structure' ? '' : `'${difference.tensor}' `
    return printable(`${path}: expected ${tensor}${expected}, found ${found}`)
  }
  const { tensor, rows, columns, rank, path, key, shardRows, isPadding } = difference
  const of = (name: string, { start, end }: Extent): string =>
    end - start === 1 ? `${name} ${start}` : `${name}s ${start} to ${end - 1}`
  const where = `tp rank ${rank.tp}, stage ${rank.stage}: ${of('row', shardRows)} of '${key}' in ${path}`
  const what = `'${tensor}' differs in ${of('row', rows)}, ${of('column', columns)}${isPadding ? ' (as padding)' : ''} (${where})`
  return printable(what)
}
