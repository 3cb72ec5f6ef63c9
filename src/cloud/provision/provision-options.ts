import { z } from 'zod'
import { checkRequest } from '../ask-service.ts'
import { ImageRequest } from '../modelarts/images.ts'
import { parseObsUrl } from '../obs/sync.ts'
import { checkShareSize, ShareRequest } from '../sfs-turbo/shares.ts'
import type { CloudOptions } from '../transport.ts'

/** A folder of the share that stands for a bucket. */
export interface ProvisionTarget {
  /** One folder at the root of the share. */
  readonly folder: string
  /** Default: the bucket that is provisioned. */
  readonly bucket?: string
  /** What of the share is written to the bucket by itself; default: nothing. */
  readonly autoExport?: readonly ('NEW' | 'CHANGED' | 'DELETED')[]
}

export interface ProvisionNotebook {
  readonly name: string
  /** As `modelarts.pool.visual.8xlarge`. */
  readonly flavor: string
  /** Hours until it stops by itself, 1 to 72; default 4. */
  readonly hours?: number
  /** Folder of the share that it sees; default: all of it. */
  readonly folder?: string
  /** Where it sees the share; default `/home/ma-user/work/`. */
  readonly at?: string
  /** Name of a key pair, for SSH. */
  readonly keyPair?: string
}

/** What trainings on ModelArts need to be there. */
export interface ProvisionOptions extends CloudOptions {
  /** Bucket for data, models and logs, in the region; it also keeps the record of what was made. */
  readonly bucket: string
  /** Folders of the bucket, as `training_data/`. */
  readonly folders?: readonly string[]
  /** Dedicated pool, as `pool-…`, that was bought; the share is linked to its network. */
  readonly poolId: string
  /** The share; of one that is there already the name will do. */
  readonly share: ShareRequest | { readonly name: string }
  readonly targets?: readonly ProvisionTarget[]
  /** Image of the trainings in SWR, with the registry's host; it is registered, for notebooks. */
  readonly image: string
  readonly notebook?: ProvisionNotebook
  /** Lets ModelArts act for users by an agency that is made for it; absent: an authorization must be there. */
  readonly authorization?: { readonly userId: string; readonly agencySuffix: string }
  /** Your prices, in any currency, to reckon what it costs to keep. There are no defaults: prices differ and change. */
  readonly prices?: {
    /** For each GiB of the share and month. */
    readonly shareGibMonth?: number
    /** For each hour that the notebook runs. */
    readonly notebookHour?: number
  }
  /** Time between two looks at something that is being made, in ms; default 10,000. */
  readonly pollMs?: number
  /** Longest wait for one thing, in ms; default 30 minutes. */
  readonly patienceMs?: number
}

const price = z.number().min(0).optional()
const Provisioning = z.looseObject({
  folders: z
    .array(z.string().regex(/^(?!\/)(?!\.ascendflow(\/|$)).*[^/]\/?$/, "folders as 'training_data/'"))
    .optional(),
  poolId: z.string().min(1),
  targets: z
    .array(
      z.strictObject({ folder: z.string(), bucket: z.string().optional(), autoExport: z.array(z.string()).optional() }),
    )
    .refine(all => new Set(all.map(({ folder }) => folder)).size === all.length, 'two targets have the same folder')
    .optional(),
  image: ImageRequest.shape.swr_path,
  notebook: z
    .strictObject({
      ...{ name: z.string(), flavor: z.string().min(1), at: z.string().startsWith('/').optional() },
      hours: z.number().int().min(1).max(72).optional(),
      folder: z
        .string()
        .regex(/^[^/\s].*$/, "a folder of the share, without '/' first")
        .optional(),
      keyPair: z.string().min(1).optional(),
    })
    .optional(),
  authorization: z
    .strictObject({ userId: z.string().min(1), agencySuffix: z.string().regex(/^[\w-]{1,50}$/) })
    .optional(),
  prices: z.strictObject({ shareGibMonth: price, notebookHour: price }).optional(),
})

/** @throws InputError naming the first option that cannot be, before anything is asked. */
export function checkProvisionOptions(options: ProvisionOptions): void {
  checkRequest(Provisioning, options, 'provision')
  if (isWholeShare(options.share)) {
    const { size, bandwidth } = checkRequest(ShareRequest, options.share, 'provision: share')
    checkShareSize(size, bandwidth)
  }
  for (const bucket of [options.bucket, ...(options.targets ?? []).flatMap(each => each.bucket ?? [])])
    parseObsUrl(`obs://${bucket}`)
}

/** True when a share is told so that it could be created. */
export function isWholeShare(share: ProvisionOptions['share']): share is ShareRequest {
  return Object.keys(share).some(key => key !== 'name')
}

/** Folders of the bucket, each with its `/`. */
export function foldersOf({ folders = [] }: ProvisionOptions): readonly string[] {
  return folders.map(folder => (folder.endsWith('/') ? folder : `${folder}/`))
}
