import { z } from 'zod'
import { type Ask, askService, orNone } from '../ask-service.ts'
import type { Transport } from '../transport.ts'

/** Name that the console shows, among the labels of pools and networks. */
export const nameLabel = 'os.modelarts/name'

const Labels = z.record(z.string(), z.string()).nullish()

/** What pools and networks have in common; `metadata.name` is the id, the name that people see is a label. */
export const Metadata = z.looseObject({ name: z.string(), labels: Labels })

/** A dedicated pool as the service tells of it. */
export const ResourcePool = z.looseObject({
  metadata: Metadata,
  spec: z
    .looseObject({
      scope: z.array(z.string()).nullish(),
      network: z.looseObject({ name: z.string().nullish() }).nullish(),
      resources: z.array(z.looseObject({ flavor: z.string().nullish(), count: z.coerce.number().nullish() })).nullish(),
    })
    .nullish(),
  status: z
    .looseObject({
      /** Creating, Running, Abnormal, Deleting, Error. */
      phase: z.string().nullish(),
      scope: z.array(z.looseObject({ scopeType: z.string().nullish(), state: z.string().nullish() })).nullish(),
    })
    .nullish(),
})
export type ResourcePool = z.output<typeof ResourcePool>

/** Dedicated pools. They are bought in the console; here they are looked at. */
export interface ResourcePools {
  list(signal?: AbortSignal): Promise<readonly ResourcePool[]>
  /** The pool with this id, `pool-…`; undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<ResourcePool | undefined>
}

/** ModelArts' dedicated pools over `transport`. Source: API reference, "Obtaining Resource Pools". */
export function resourcePools(transport: Transport): ResourcePools {
  const ask = askService(transport, { service: 'modelarts', version: 'v2' })
  return {
    list: signal => listItems(ask, 'pools', ResourcePool, signal),
    get: (id, signal) =>
      ask({ method: 'GET', path: ['pools', id], signal }, ResourcePool).catch(orNone('ModelArts.2890')),
  }
}

/** All items of a list that is told in parts, each naming where the next begins. */
export async function listItems<T extends z.ZodType>(
  ask: Ask,
  resource: string,
  item: T,
  signal?: AbortSignal,
): Promise<z.output<T>[]> {
  const schema = z.looseObject({
    items: z.array(item).nullish(),
    metadata: z.looseObject({ continue: z.string().nullish() }).nullish(),
  })
  const all: z.output<T>[] = []
  let next: string | undefined
  do {
    const answer = await ask({ method: 'GET', path: [resource], query: { continue: next }, signal }, schema)
    all.push(...(answer.items ?? []))
    next = answer.metadata?.continue || undefined
  } while (next)
  return all
}
