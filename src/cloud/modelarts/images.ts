import { z } from 'zod'
import { type Ask, askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import { listRows } from '../list-rows.ts'
import type { Transport } from '../transport.ts'
import { type WaitOptions, waitUntil } from '../wait-until.ts'

/** An image of SWR as notebooks are to know it. */
export const ImageRequest = z.strictObject({
  swr_path: z
    .string()
    .regex(/^[\w.-]+\.[\w.-]+\/[\w./-]+:[\w.-]+$/, "an address as 'swr.cn-southwest-2.myhuaweicloud.com/org/name:tag'"),
  arch: z.enum(['AARCH64', 'X86_64']),
  resource_category: z.array(z.enum(['ASCEND', 'CPU', 'GPU'])).min(1),
  services: z.array(z.enum(['NOTEBOOK', 'SSH'])).min(1),
  workspace_id: z.string().optional(),
  description: z.string().max(512).optional(),
  flavor_type: z.string().optional(),
})
export type ImageRequest = z.output<typeof ImageRequest>

/** A registered image as the service tells of it. */
export const Image = z.looseObject({
  id: z.string(),
  swr_path: z.string().nullish(),
  /** INIT, CREATING, CREATE_FAILED, ERROR, DELETED, ACTIVE. */
  status: z.string().nullish(),
  status_message: z.string().nullish(),
})
export type Image = z.output<typeof Image>

/** ModelArts' own list of images, which notebooks need; jobs take images of SWR without it. */
export interface Images {
  list(signal?: AbortSignal): Promise<readonly Image[]>
  /** The one registered with exactly this address; undefined when there is none. */
  find(swrPath: string, signal?: AbortSignal): Promise<Image | undefined>
  /** Registers it, or gives the one registered with this address. */
  register(request: ImageRequest, options?: CreateOptions): Promise<Image>
  waitActive(id: string, options?: WaitOptions): Promise<Image>
  /** Takes it off the list; the image itself stays in SWR. One that is gone is left alone. */
  unregister(id: string, signal?: AbortSignal): Promise<void>
}

/** ModelArts' images over `transport`. Source: API reference, "Registering a Custom Image", "Deleting an Image". */
export function images(transport: Transport): Images {
  const ask = askService(transport, { service: 'modelarts', version: 'v1' })
  const find = async (swrPath: string, signal?: AbortSignal) =>
    (await listImages(ask, signal)).find(({ swr_path, status }) => swr_path === swrPath && status !== 'DELETED')

  return {
    list: signal => listImages(ask, signal),
    find,
    async register(request, options) {
      const body = checkRequest(ImageRequest, request, 'image')
      const signal = options?.signal
      return createOnce(
        {
          find: () => find(request.swr_path, signal),
          create: () => ask({ method: 'POST', path: ['images'], body, signal }, Image),
        },
        options,
      )
    },
    waitActive: (id, options) =>
      waitUntil(
        {
          ...{ service: 'modelarts', what: `image ${id}` },
          look: () => ask({ method: 'GET', path: ['images', id], signal: options?.signal }, Image),
          stateOf: ({ status }) => status ?? 'unknown',
          progress: ({ status, status_message }) => {
            if (status === 'ACTIVE') return 'reached'
            if (!['CREATE_FAILED', 'ERROR', 'DELETED'].includes(status ?? '')) return 'coming'
            return { failed: `it is ${status}${status_message ? ` (${status_message})` : ''}` }
          },
        },
        options,
      ),
    // Without `force`, which would delete the image in SWR as well.
    unregister: (id, signal) =>
      ask({ method: 'DELETE', path: ['images', id], signal }, z.unknown()).then(() => undefined, orNone()),
  }
}

/** How ModelArts tells lists of its development environment: images, notebooks and their flavors. */
export const developmentPage = { key: 'data', pageSize: 50 } as const

/** One's own images. */
export function listImages(ask: Ask, signal?: AbortSignal): Promise<readonly Image[]> {
  return listRows(ask, { path: ['images'], query: { type: 'DEDICATED' }, ...developmentPage, row: Image }, signal)
}
