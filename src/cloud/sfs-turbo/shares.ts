import { z } from 'zod'
import { InputError } from '../../errors.ts'
import { askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import { listRows } from '../list-rows.ts'
import type { Transport } from '../transport.ts'
import { type WaitOptions, waitUntil } from '../wait-until.ts'

/** MB/s for each TiB. Source: SFS Turbo's API reference, `hpc_bw`. */
export const shareBandwidths = ['20M', '40M', '125M', '250M', '500M', '1000M'] as const

/** A share of the HPC type, the one that can be linked to OBS and to networks of ModelArts. */
export const ShareRequest = z.strictObject({
  name: z.string().regex(/^[A-Za-z][\w-]{3,63}$/, "4 to 64 letters, digits, '_' and '-', a letter first"),
  /** GiB: multiples of 1.2 TiB, rounded down. */
  size: z.number().int(),
  bandwidth: z.enum(shareBandwidths),
  availabilityZone: z.string().min(1),
  vpcId: z.string().min(1),
  /** Network id of a subnet of the VPC. */
  subnetId: z.string().min(1),
  securityGroupId: z.string().min(1),
})
export type ShareRequest = z.output<typeof ShareRequest>

/** A share as the service tells of it. Numbers come as strings. */
export const Share = z.looseObject({
  id: z.string(),
  name: z.string().nullish(),
  /** 100 creating, 200 available, 303 creation failed, 800 frozen. */
  status: z.string().nullish(),
  sub_status: z.string().nullish(),
  /** GiB. */
  size: z.coerce.number().nullish(),
  /** GiB that are free. */
  avail_capacity: z.coerce.number().nullish(),
  vpc_id: z.string().nullish(),
  expand_type: z.string().nullish(),
  hpc_bw: z.string().nullish(),
  export_location: z.string().nullish(),
})
export type Share = z.output<typeof Share>

/** SFS Turbo shares. */
export interface Shares {
  list(signal?: AbortSignal): Promise<readonly Share[]>
  /** The one of exactly this name; undefined when there is none. Names are the same whatever their case. */
  find(name: string, signal?: AbortSignal): Promise<Share | undefined>
  /** Undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<Share | undefined>
  /** Creates it, or gives the one of this name, whatever its size. @throws InputError for a size that there is not. */
  create(request: ShareRequest, options?: CreateOptions): Promise<Share>
  waitAvailable(id: string, options?: WaitOptions): Promise<Share>
  /** Deletes it with all files on it. One that is gone is left alone. */
  remove(id: string, signal?: AbortSignal): Promise<void>
  waitGone(id: string, options?: WaitOptions): Promise<void>
}

/** A share that was deleted is answered with status 403 and code 9000. Source: Huawei's Terraform provider. */
const noShare = orNone('SFS.TURBO.9000', 'SFS.TURBO.0002')

/** What the states of a share mean. Source: SFS Turbo's API reference, "Querying Details About a File System". */
const stateNames: Readonly<Record<string, string>> = {
  '100': 'being created',
  '200': 'available',
  '303': 'not created, for its creation failed',
  '800': 'frozen',
}

/** What a share's state is called. */
export function shareState(share: Share | undefined): string {
  return share ? (stateNames[share.status ?? ''] ?? `in state ${share.status}`) : 'gone'
}

/** SFS Turbo's shares over `transport`. */
export function shares(transport: Transport): Shares {
  const ask = askService(transport, { service: 'sfs-turbo', version: 'v1' })
  const list = (signal?: AbortSignal) =>
    listRows(ask, { path: ['sfs-turbo', 'shares', 'detail'], key: 'shares', row: Share, pageSize: 100 }, signal)
  const find = async (name: string, signal?: AbortSignal) =>
    (await list(signal)).find(each => each.name?.toLowerCase() === name.toLowerCase())
  const get = (id: string, signal?: AbortSignal) =>
    ask({ method: 'GET', path: ['sfs-turbo', 'shares', id], signal }, Share).catch(noShare)

  return {
    list,
    find,
    get,
    async create(request, options) {
      const { name, size, bandwidth, ...where } = checkRequest(ShareRequest, request, 'share')
      checkShareSize(size, bandwidth)
      const share = {
        ...{ name, size, share_proto: 'NFS', share_type: 'STANDARD' },
        ...{ availability_zone: where.availabilityZone, vpc_id: where.vpcId, subnet_id: where.subnetId },
        ...{ security_group_id: where.securityGroupId, metadata: { expand_type: 'hpc', hpc_bw: bandwidth } },
      }
      const signal = options?.signal
      const wanted = { method: 'POST', path: ['sfs-turbo', 'shares'], body: { share }, signal } as const
      return createOnce(
        {
          find: () => find(name, signal),
          create: () => ask(wanted, Share),
          isTaken: error => error.serviceCode === 'SFS.TURBO.0009',
        },
        options,
      )
    },
    async waitAvailable(id, options) {
      const seen = await waitUntil(
        {
          ...{ service: 'sfs-turbo', what: `share ${id}` },
          look: () => get(id, options?.signal),
          stateOf: shareState,
          progress: share => {
            if (share?.status === '200') return 'reached'
            const isOver = !share || ['303', '800'].includes(share.status ?? '')
            return isOver ? { failed: `it is ${shareState(share)}` } : 'coming'
          },
        },
        options,
      )
      return seen!
    },
    remove: (id, signal) =>
      ask({ method: 'DELETE', path: ['sfs-turbo', 'shares', id], signal }, z.unknown()).then(() => undefined, noShare),
    async waitGone(id, options) {
      await waitUntil(
        {
          ...{ service: 'sfs-turbo', what: `share ${id}` },
          look: () => get(id, options?.signal),
          stateOf: shareState,
          progress: share => (share ? 'coming' : 'reached'),
        },
        options,
      )
    },
  }
}

const tib = 1024
const unitGib = 1.2 * tib
const largestGib = 1_048_576

/** @throws InputError naming the sizes next to one that there is not. */
export function checkShareSize(size: number, bandwidth: (typeof shareBandwidths)[number]): void {
  const least = bandwidth === '20M' ? 3 : 1
  const sizeOf = (units: number) => Math.floor(units * unitGib + 1e-6)
  const units = Math.max(least, Math.min(Math.floor((size + 1) / unitGib), Math.floor(largestGib / unitGib)))
  if (sizeOf(units) === size) return
  throw new InputError(
    `share: ${size} GiB is no size of a share of ${bandwidth}B/s for each TiB; ${sizeOf(units)} and ${sizeOf(units + 1)} GiB are.`,
    { field: 'share.size', hint: 'Sizes are multiples of 1.2 TiB, rounded down to GiB.' },
  )
}
