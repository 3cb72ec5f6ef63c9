import { z } from 'zod'
import type { Ask } from './ask-service.ts'

/** A list that is told by the page, `offset` being the number of rows before it. */
export interface RowList<T extends z.ZodType> {
  readonly path: readonly string[]
  readonly query?: Readonly<Record<string, string>>
  /** Field of the answer that has the rows. */
  readonly key: string
  readonly row: T
  /** Rows of a page, as many as the service tells at once. */
  readonly pageSize: number
}

/** All rows of a list. */
export async function listRows<T extends z.ZodType>(
  ask: Ask,
  { path, query, key, row, pageSize }: RowList<T>,
  signal?: AbortSignal,
): Promise<z.output<T>[]> {
  const schema = z.looseObject({ [key]: z.array(row).nullish() })
  const all: z.output<T>[] = []
  for (;;) {
    const page = { ...query, offset: all.length, limit: pageSize }
    const answer = await ask({ method: 'GET', path, query: page, signal }, schema)
    const rows = (answer[key] ?? []) as z.output<T>[]
    all.push(...rows)
    if (rows.length < pageSize) return all
  }
}
