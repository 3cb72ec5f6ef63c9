import { z } from 'zod'
import { askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import type { Transport } from '../transport.ts'
import { type WaitOptions, waitUntil } from '../wait-until.ts'

const mode = z
  .number()
  .int()
  .min(0)
  .max(777)
  .refine(value => /^[0-7]{1,3}$/.test(`${value}`), 'digits 0 to 7, as chmod takes them')

/** A folder of a share that stands for a bucket. */
export const ObsTargetRequest = z.strictObject({
  /** One new folder at the root of the share. */
  file_system_path: z
    .string()
    .max(63)
    .regex(/^(?!\.{1,2}$)[^/\\\s]+$/, 'the name of one folder at the root of the share'),
  obs: z.strictObject({
    bucket: z.string().min(3),
    /** `obs.{region}.myhuaweicloud.com`. */
    endpoint: z.string().min(1),
    policy: z
      .strictObject({
        auto_export_policy: z.strictObject({ events: z.array(z.enum(['NEW', 'CHANGED', 'DELETED'])).min(1) }),
      })
      .optional(),
    /** Of what is imported: who owns it, and its modes, whose decimal digits are read as octal ones. */
    attributes: z
      .strictObject({ file_mode: mode, dir_mode: mode, uid: z.number().int().min(0), gid: z.number().int().min(0) })
      .optional(),
  }),
})
export type ObsTargetRequest = z.output<typeof ObsTargetRequest>

/** A target as the service tells of it. */
export const ObsTarget = z.looseObject({
  target_id: z.string(),
  file_system_path: z.string().nullish(),
  /** CREATING, AVAILABLE, MISCONFIGURED, FAILED, DELETING. */
  lifecycle: z.string().nullish(),
  failure_details: z.looseObject({ message: z.string().nullish() }).nullish(),
  obs: z.looseObject({ bucket: z.string().nullish(), endpoint: z.string().nullish() }).nullish(),
})
export type ObsTarget = z.output<typeof ObsTarget>

/** The buckets behind folders of one share. */
export interface ObsTargets {
  list(signal?: AbortSignal): Promise<readonly ObsTarget[]>
  /** The target of exactly this folder; undefined when there is none. */
  find(folder: string, signal?: AbortSignal): Promise<ObsTarget | undefined>
  /** Creates it, or gives the one of this folder, whatever its bucket. */
  create(request: ObsTargetRequest, options?: CreateOptions): Promise<ObsTarget>
  waitAvailable(id: string, options?: WaitOptions): Promise<ObsTarget>
  /** Ends the link; the files stay on the share and in the bucket. One that is gone is left alone. */
  remove(id: string, signal?: AbortSignal): Promise<void>
  waitGone(id: string, options?: WaitOptions): Promise<void>
}

const bucketPolicy = 'Let SFS Turbo read and write the bucket (its policy), and name a bucket of the same region.'

/** Targets of the share `shareId` over `transport`. Source: SFS Turbo's API reference, "Storage Interworking". */
export function obsTargets(transport: Transport, shareId: string): ObsTargets {
  const ask = askService(transport, { service: 'sfs-turbo', version: 'v1' })
  const path = ['sfs-turbo', 'shares', shareId, 'targets'] as const
  const noTarget = orNone('SFS.TURBO.9000', 'SFS.TURBO.0002')
  const list = async (signal?: AbortSignal) => {
    const schema = z.looseObject({ targets: z.array(ObsTarget).nullish() })
    return (await ask({ method: 'GET', path, query: { limit: 1000 }, signal }, schema)).targets ?? []
  }
  const find = async (folder: string, signal?: AbortSignal) =>
    (await list(signal)).find(
      each => each.file_system_path?.replaceAll(/^\/|\/$/g, '') === folder && each.lifecycle !== 'DELETING',
    )
  const get = (id: string, signal?: AbortSignal) =>
    ask({ method: 'GET', path: [...path, id], signal }, ObsTarget).catch(noTarget)

  return {
    list,
    find,
    async create(request, options) {
      const body = checkRequest(ObsTargetRequest, request, 'target')
      const signal = options?.signal
      return createOnce(
        {
          find: () => find(request.file_system_path, signal),
          create: () => ask({ method: 'POST', path, body, signal }, ObsTarget),
        },
        options,
      )
    },
    async waitAvailable(id, options) {
      const seen = await waitUntil(
        {
          ...{ service: 'sfs-turbo', what: `target ${id} of share ${shareId}` },
          look: () => get(id, options?.signal),
          stateOf: target => target?.lifecycle ?? 'unknown',
          progress: target => {
            if (!target) return { failed: 'it is not there' }
            const { lifecycle, failure_details } = target
            if (lifecycle === 'AVAILABLE') return 'reached'
            if (!['MISCONFIGURED', 'FAILED', 'DELETING'].includes(lifecycle ?? '')) return 'coming'
            const why = failure_details?.message ? ` (${failure_details.message})` : ''
            return {
              failed: `it is ${lifecycle}${why}`,
              ...(lifecycle === 'MISCONFIGURED' ? { hint: bucketPolicy } : {}),
            }
          },
        },
        options,
      )
      return seen!
    },
    remove: (id, signal) =>
      ask({ method: 'DELETE', path: [...path, id], signal }, z.unknown()).then(() => undefined, noTarget),
    async waitGone(id, options) {
      await waitUntil(
        {
          ...{ service: 'sfs-turbo', what: `target ${id} of share ${shareId}` },
          look: () => get(id, options?.signal),
          stateOf: target => target?.lifecycle ?? 'gone',
          progress: target => {
            if (!target) return 'reached'
            return target.lifecycle === 'FAILED' ? { failed: 'it was not removed' } : 'coming'
          },
        },
        options,
      )
    },
  }
}
