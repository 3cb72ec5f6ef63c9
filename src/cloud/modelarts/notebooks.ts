import { z } from 'zod'
import { askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import { listRows } from '../list-rows.ts'
import type { Transport } from '../transport.ts'
import { type WaitOptions, waitUntil } from '../wait-until.ts'
import { developmentPage, Image, listImages } from './images.ts'

const durationMs = z.number().int().min(3_600_000, 'an hour at least').max(259_200_000, '72 hours at most')

/** A notebook as it is asked for, in a dedicated pool and with an SFS Turbo share. */
export const NotebookRequest = z.strictObject({
  name: z.string().regex(/^[\w-]{1,64}$/, "up to 64 letters, digits, '_' and '-'"),
  image_id: z.string().min(1),
  flavor: z.string().min(1),
  pool_id: z.string().optional(),
  feature: z.literal('NOTEBOOK'),
  /** Milliseconds until it stops by itself. */
  duration: durationMs.optional(),
  workspace_id: z.string().optional(),
  description: z.string().max(512).optional(),
  volume: z.strictObject({
    category: z.literal('EFS'),
    ownership: z.literal('DEDICATED'),
    uri: z.string().regex(/^[^\s:]+:\/\S*$/, "an export as 'address:/path'"),
    id: z.string().min(1),
    mount_path: z.string().startsWith('/').optional(),
  }),
  endpoints: z
    .array(z.strictObject({ service: z.literal('SSH'), key_pair_names: z.array(z.string()).min(1) }))
    .optional(),
})
export type NotebookRequest = z.output<typeof NotebookRequest>

/** A container image that a notebook is saved as. */
export const SaveImageRequest = z.strictObject({
  name: z.string().regex(/^[a-z0-9._-]{1,512}$/, "lower-case letters, digits, '-', '_' and '.'"),
  /** Organisation in SWR; it must exist. */
  namespace: z.string().min(1),
  tag: z.string().regex(/^[\w.-]{1,64}$/, "up to 64 letters, digits, '-', '_' and '.'"),
  description: z.string().max(512).optional(),
})
export type SaveImageRequest = z.output<typeof SaveImageRequest>

/** A notebook as the service tells of it; its address holds a token and is left out of what is logged. */
export const Notebook = z.looseObject({
  id: z.string(),
  name: z.string().nullish(),
  flavor: z.string().nullish(),
  /** INIT, CREATING, STARTING, STOPPING, DELETING, RUNNING, STOPPED, SNAPSHOTTING, …FAILED, ERROR, DELETED, FROZEN. */
  status: z.string().nullish(),
  fail_reason: z.string().nullish(),
  url: z.string().nullish(),
})
export type Notebook = z.output<typeof Notebook>

const Flavor = z.looseObject({ id: z.string(), sold_out: z.boolean().nullish() })

/** Notebooks. */
export interface Notebooks {
  list(signal?: AbortSignal): Promise<readonly Notebook[]>
  /** The one of exactly this name; undefined when there is none. */
  find(name: string, signal?: AbortSignal): Promise<Notebook | undefined>
  /** Undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<Notebook | undefined>
  /** Ids of the flavors for NPUs of dedicated pools that are not sold out. */
  flavors(signal?: AbortSignal): Promise<readonly string[]>
  /** Creates and starts it, or gives the one of this name. */
  create(request: NotebookRequest, options?: CreateOptions): Promise<Notebook>
  /** Starts one that is stopped, for `hours` (1 to 72) if given. One that runs or starts is left alone. */
  start(id: string, hours?: number, signal?: AbortSignal): Promise<void>
  /** Stops one that runs; what is not on a volume is lost. One that is stopped is left alone. */
  stop(id: string, signal?: AbortSignal): Promise<void>
  /** Waits for `RUNNING`, `STOPPED`, or until it is `gone`. */
  waitFor(id: string, state: 'RUNNING' | 'STOPPED' | 'gone', options?: WaitOptions): Promise<Notebook | undefined>
  /** Saves a running notebook as an image in SWR, or gives the image of that name and tag. */
  saveImage(id: string, request: SaveImageRequest, options?: CreateOptions): Promise<Image>
  /** Asks for its removal; its share stays. One that is gone is left alone. */
  remove(id: string, signal?: AbortSignal): Promise<void>
}

const failing = ['CREATE_FAILED', 'START_FAILED', 'DELETE_FAILED', 'ERROR', 'FROZEN']
/** Codes of a notebook that is not there. Source: Huawei's Terraform provider, `modelarts_notebook`. */
const missing = orNone('ModelArts.6309', 'ModelArts.6404')

/** ModelArts' notebooks over `transport`. Source: API reference, "Development Environment Management". */
export function notebooks(transport: Transport): Notebooks {
  const ask = askService(transport, { service: 'modelarts', version: 'v1' })
  const all = (query: Readonly<Record<string, string>>, signal?: AbortSignal) =>
    listRows(ask, { path: ['notebooks'], query, ...developmentPage, row: Notebook }, signal)
  const find = async (name: string, signal?: AbortSignal) =>
    (await all({ name }, signal)).find(
      each => each.name === name && !['DELETING', 'DELETED'].includes(each.status ?? ''),
    )
  const get = (id: string, signal?: AbortSignal) =>
    ask({ method: 'GET', path: ['notebooks', id], signal }, Notebook).catch(missing)
  const act = (id: string, action: 'start' | 'stop', query: Record<string, number>, signal?: AbortSignal) =>
    ask({ method: 'POST', path: ['notebooks', id, action], query, isRepeatable: true, signal }, z.unknown())

  return {
    list: signal => all({}, signal),
    find,
    get,
    async flavors(signal) {
      const query = { type: 'DEDICATED', category: 'ASCEND' }
      const all = await listRows(
        ask,
        { path: ['notebooks', 'flavors'], query, ...developmentPage, row: Flavor },
        signal,
      )
      return all.filter(({ sold_out }) => !sold_out).map(({ id }) => id)
    },
    async create(request, options) {
      const body = checkRequest(NotebookRequest, request, 'notebook')
      const signal = options?.signal
      return createOnce(
        {
          find: () => find(request.name, signal),
          create: () => ask({ method: 'POST', path: ['notebooks'], body, signal }, Notebook),
        },
        options,
      )
    },
    async start(id, hours, signal) {
      if (['RUNNING', 'STARTING', 'CREATING'].includes((await get(id, signal))?.status ?? '')) return
      const query = hours === undefined ? {} : { duration: checkRequest(durationMs, hours * 3_600_000, 'hours') }
      await act(id, 'start', query, signal)
    },
    async stop(id, signal) {
      if (['STOPPED', 'STOPPING', undefined].includes((await get(id, signal))?.status ?? undefined)) return
      await act(id, 'stop', {}, signal)
    },
    waitFor: (id, state, options) =>
      waitUntil(
        {
          ...{ service: 'modelarts', what: `notebook ${id}` },
          look: () => get(id, options?.signal),
          stateOf: notebook => notebook?.status ?? 'gone',
          progress: notebook => {
            const now = notebook?.status === 'DELETED' ? 'gone' : (notebook?.status ?? 'gone')
            if (now === state) return 'reached'
            if (now === 'gone') return { failed: 'it is not there' }
            if (!failing.includes(now)) return 'coming'
            return { failed: `it is ${now}${notebook?.fail_reason ? ` (${notebook.fail_reason})` : ''}` }
          },
        },
        options,
      ),
    async saveImage(id, request, options) {
      const body = checkRequest(SaveImageRequest, request, 'image')
      const signal = options?.signal
      const ending = `/${body.namespace}/${body.name}:${body.tag}`
      return createOnce(
        {
          find: async () =>
            (await listImages(ask, signal)).find(
              ({ swr_path, status }) => swr_path?.endsWith(ending) && status !== 'DELETED',
            ),
          create: () => ask({ method: 'POST', path: ['notebooks', id, 'create-image'], body, signal }, Image),
        },
        options,
      )
    },
    remove: (id, signal) =>
      ask({ method: 'DELETE', path: ['notebooks', id], signal }, z.unknown()).then(() => undefined, missing),
  }
}
