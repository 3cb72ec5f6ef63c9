import { ServiceError } from '../../errors.ts'
import { type Authorization, authorizations } from '../modelarts/authorizations.ts'
import { type Image, images } from '../modelarts/images.ts'
import { type Network, networks } from '../modelarts/networks.ts'
import { type Notebook, notebooks } from '../modelarts/notebooks.ts'
import { type ResourcePool, resourcePools } from '../modelarts/resource-pools.ts'
import { type Obs, obs } from '../obs/obs.ts'
import { type ObsTarget, obsTargets } from '../sfs-turbo/obs-targets.ts'
import { type Share, shares } from '../sfs-turbo/shares.ts'
import { type CloudOptions, createTransport } from '../transport.ts'
import { foldersOf, type ProvisionOptions } from './provision-options.ts'

/** The services that an account is provisioned with. */
export type Clients = ReturnType<typeof clientsOf>

export function clientsOf(options: CloudOptions) {
  const transport = createTransport(options)
  return {
    ...{ obs: obs(options), authorizations: authorizations(transport), pools: resourcePools(transport) },
    ...{ networks: networks(transport), shares: shares(transport), images: images(transport) },
    ...{ notebooks: notebooks(transport), targetsOf: (shareId: string) => obsTargets(transport, shareId) },
  }
}

/** Where a bucket is: in a region, with another account, or nowhere. */
export type BucketPlace = { readonly region: string } | 'foreign' | undefined

/** What of the wanted is there. */
export interface AccountSurvey {
  /** Absent when these keys may not look at them. */
  readonly authorizations?: readonly Authorization[] | undefined
  readonly buckets: ReadonlyMap<string, BucketPlace>
  readonly folders: ReadonlySet<string>
  readonly pool?: ResourcePool | undefined
  readonly network?: Network | undefined
  readonly share?: Share | undefined
  readonly targets: readonly ObsTarget[]
  readonly image?: Image | undefined
  readonly notebook?: Notebook | undefined
  /** Flavors that notebooks are offered in; asked only where one is to be made. */
  readonly flavors: readonly string[]
}

/** Looks at an account; changes nothing. */
export async function surveyAccount(
  clients: Clients,
  options: ProvisionOptions,
  signal?: AbortSignal,
): Promise<AccountSurvey> {
  const { bucket, targets = [], image, notebook } = options
  const buckets = new Map<string, BucketPlace>()
  for (const name of new Set([bucket, ...targets.flatMap(each => each.bucket ?? [])]))
    buckets.set(name, await placeOf(clients.obs, name, signal))
  const folders = new Set<string>()
  if (typeof buckets.get(bucket) === 'object')
    for (const folder of foldersOf(options))
      if (await hasObjects(clients.obs, bucket, folder, signal)) folders.add(folder)
  const pool = await clients.pools.get(options.poolId, signal)
  const networkId = pool?.spec?.network?.name
  const share = await clients.shares.find(options.share.name, signal)
  const foundNotebook = notebook && (await clients.notebooks.find(notebook.name, signal))
  return {
    ...{ buckets, folders, pool, share, notebook: foundNotebook },
    authorizations: await clients.authorizations.list(signal).catch(orForbidden),
    network: networkId ? await clients.networks.get(networkId, signal) : undefined,
    targets: share && targets.length > 0 ? await clients.targetsOf(share.id).list(signal) : [],
    image: await clients.images.find(image, signal),
    flavors: notebook && !foundNotebook ? await clients.notebooks.flavors(signal) : [],
  }
}

async function placeOf(client: Obs, bucket: string, signal?: AbortSignal): Promise<BucketPlace> {
  try {
    const region = await client.bucketRegion(bucket, signal)
    return region === undefined ? undefined : { region }
  } catch (error) {
    // Wrong keys are told by what is asked next; a bucket that is not ours is refused like this.
    orForbidden(error)
    return 'foreign'
  }
}

function orForbidden(error: unknown): undefined {
  if (!(error instanceof ServiceError && error.status === 403)) throw error
}

/** True when a key of the bucket begins with `prefix`. */
async function hasObjects(client: Obs, bucket: string, prefix: string, signal?: AbortSignal): Promise<boolean> {
  return !(await client.list(bucket, prefix, signal).next()).done
}
