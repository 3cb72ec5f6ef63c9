import { z } from 'zod'
import type { Ask } from '../ask-service.ts'

const pageSize = 50

/** All rows of a list of `data` that is told by the page, `offset` being the number of rows before it. */
export async function listRows<T extends z.ZodType>(
  ask: Ask,
  {
    path,
    query,
    row,
  }: {
    readonly path: 'images' | 'notebooks' | 'notebooks/flavors'
    readonly query: Readonly<Record<string, string>>
    readonly row: T
  },
  signal?: AbortSignal,
): Promise<z.output<T>[]> {
  const schema = z.looseObject({ data: z.array(row).nullish() })
  const all: z.output<T>[] = []
  for (;;) {
    const page = { ...query, offset: all.length, limit: pageSize }
    const { data } = await ask({ method: 'GET', path: path.split('/'), query: page, signal }, schema)
    all.push(...(data ?? []))
    if ((data?.length ?? 0) < pageSize) return all
  }
}
