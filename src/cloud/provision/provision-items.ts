import type { ResourcePool } from '../modelarts/resource-pools.ts'
import { shareState } from '../sfs-turbo/shares.ts'
import type { AccountSurvey, BucketPlace } from './account-survey.ts'
import type { MadeKind } from './made-record.ts'
import { foldersOf, isWholeShare, type ProvisionOptions } from './provision-options.ts'

/** One thing that is wanted. */
export interface ProvisionItem {
  readonly kind: MadeKind | 'pool'
  readonly name: string
  /**
   * `blocked`: it is neither there as wanted nor can it be made; `detail` says why and what to do. `unknown`: these keys
   * may not look.
   */
  readonly state: 'exists' | 'create' | 'blocked' | 'unknown'
  readonly detail: string
  /** What keeping it costs; of things that are to be created only. */
  readonly cost?: ItemCost
}

/** What a thing costs as long as it is kept, by the prices that were given. */
export interface ItemCost {
  /** What is paid for: `6144 GiB`. */
  readonly amount: string
  readonly per: 'month' | 'hour'
  /** In the currency of the prices; absent without one. */
  readonly price?: number
}

/** What is there and what would be made, in the order of making. Pure: the same survey gives the same items. */
export function provisionItems(options: ProvisionOptions, survey: AccountSurvey): readonly ProvisionItem[] {
  return [
    authorizationItem(options, survey),
    ...bucketItems(options, survey),
    poolItem(options, survey.pool),
    shareItem(options, survey),
    linkItem(options, survey),
    ...targetItems(options, survey),
    imageItem(options.image, survey),
    ...(options.notebook === undefined ? [] : [notebookItem(options.notebook, options, survey)]),
  ]
}

type Item = Omit<ProvisionItem, 'kind' | 'name'>
const exists = (detail = ''): Item => ({ state: 'exists', detail })
const create = (detail = '', cost?: ItemCost): Item => ({ state: 'create', detail, ...(cost ? { cost } : {}) })
const blocked = (detail: string): Item => ({ state: 'blocked', detail })

function authorizationItem({ authorization }: ProvisionOptions, { authorizations }: AccountSurvey): ProvisionItem {
  const kind = 'authorization'
  if (authorization) {
    const { userId, agencySuffix } = authorization
    const isThere = authorizations?.some(({ user_id, type }) => user_id === userId && type === 'agency')
    const agency = `ma_agency_${agencySuffix}`
    return { kind, name: userId, ...(isThere ? exists() : create(`lets ModelArts act by the agency ${agency}`)) }
  }
  const unknown = { state: 'unknown', detail: 'these keys may not look; without one, jobs are refused' } as const
  if (!authorizations) return { kind, name: 'ModelArts', ...unknown }
  const users = authorizations.map(({ user_name, user_id }) => user_name ?? user_id ?? 'a user')
  if (users.length > 0) return { kind, name: users.slice(0, 3).join(', '), ...exists() }
  const how = 'give authorization, or set it in the console, on the page "Permission Management"'
  return { kind, name: 'ModelArts', ...blocked(`nobody lets ModelArts read OBS, SWR and SFS: ${how}`) }
}

function bucketItems(options: ProvisionOptions, { buckets, folders }: AccountSurvey): ProvisionItem[] {
  const { bucket, region } = options
  const place = buckets.get(bucket)
  const others = [...buckets].filter(([name]) => name !== bucket)
  return [
    { kind: 'bucket', name: bucket, ...(place ? bucketThere(place, region) : create('costs what is stored in it')) },
    ...foldersOf(options).map(folder => ({
      ...{ kind: 'folder' as const, name: `${bucket}/${folder}` },
      ...(folders.has(folder) ? exists() : create()),
    })),
    ...others.map(([name, at]) => ({
      ...{ kind: 'bucket' as const, name },
      ...(at ? bucketThere(at, region) : blocked('it is not there: make it, or provision it as bucket')),
    })),
  ]
}

function bucketThere(place: NonNullable<BucketPlace>, region: string): Item {
  if (place === 'foreign') return blocked('another account has it, or these keys may not see it: choose another name')
  return place.region === region
    ? exists()
    : blocked(`it is in ${place.region}, and ModelArts reads buckets of its own region, ${region}, only`)
}

function poolItem({ poolId }: ProvisionOptions, pool: ResourcePool | undefined): ProvisionItem {
  const item = () => {
    if (!pool) return blocked("there is no such pool: buy it in the console, and name its id ('pool-…') as poolId")
    const phase = pool.status?.phase
    if (phase !== 'Running') return blocked(`it is ${phase ?? 'in no known phase'}, and must be Running`)
    const training = pool.status?.scope?.find(({ scopeType }) => scopeType === 'Train')
    if (training && training.state !== 'Enabled') return blocked('it is not for training: add Train to its scope')
    if (!pool.spec?.network?.name) return blocked('it has no network of its own that a share could be linked to')
    const nodes = pool.spec.resources?.map(({ count, flavor }) => `${count} × ${flavor}`).join(', ')
    return exists(nodes)
  }
  return { kind: 'pool', name: poolId, ...item() }
}

function shareItem({ share: wanted, prices }: ProvisionOptions, { share }: AccountSurvey): ProvisionItem {
  const item = () => {
    if (!share && !isWholeShare(wanted))
      return blocked('there is none: give its size, bandwidth and place to have it made')
    if (!isWholeShare(wanted)) return shareThere(share)
    const { size, bandwidth, vpcId } = wanted
    if (!share) {
      const each = prices?.shareGibMonth
      const amount = `${size} GiB`
      return create(`${amount}, ${bandwidth}B/s for each TiB, in ${vpcId}`, {
        ...{ amount, per: 'month' },
        ...(each === undefined ? {} : { price: size * each }),
      })
    }
    if (share.vpc_id && share.vpc_id !== vpcId) return blocked(`it is in VPC ${share.vpc_id}, and ${vpcId} is wanted`)
    if ((share.size ?? size) < size) return blocked(`it has ${share.size} GiB, and ${size} are wanted: enlarge it`)
    if (share.hpc_bw && share.hpc_bw !== bandwidth)
      return blocked(`it is of ${share.hpc_bw}, and ${bandwidth} is wanted`)
    return shareThere(share)
  }
  return { kind: 'share', name: wanted.name, ...item() }
}

function shareThere(share: AccountSurvey['share']): Item {
  if (['303', '800'].includes(share?.status ?? ''))
    return blocked(`it is ${shareState(share)}: delete it, or take another name`)
  if (share?.expand_type && share.expand_type !== 'hpc')
    return blocked(`it is of type ${share.expand_type}, and only those of MB/s for each TiB (hpc) can be linked`)
  return exists(`${share?.size} GiB, ${shareState(share)}`)
}

function linkItem({ share: wanted, poolId }: ProvisionOptions, { network, share, pool }: AccountSurvey): ProvisionItem {
  const item = () => {
    if (network?.status?.phase === 'Abnormal') return blocked(`the network ${network.metadata.name} is abnormal`)
    const isAsked = network?.spec?.connection?.sfsTurboConnectionList?.some(({ sfsId }) => sfsId === share?.id)
    const link = network?.status?.connectionStatus?.sfsTurboStatus?.find(({ sfsId }) => sfsId === share?.id)
    if (isAsked && link?.status === 'Abnormal')
      return blocked(
        'it is abnormal: look at VPC, addresses and security group of the share, or unlink it and run again',
      )
    return isAsked ? exists(link?.ipAddr ?? '') : create(`to the network ${pool?.spec?.network?.name ?? 'of the pool'}`)
  }
  return { kind: 'link', name: `${wanted.name} → ${poolId}`, ...item() }
}

function targetItems({ targets = [], share, bucket }: ProvisionOptions, survey: AccountSurvey): ProvisionItem[] {
  return targets.map(({ folder, bucket: behind = bucket }) => {
    const found = survey.targets.find(each => each.file_system_path?.replaceAll(/^\/|\/$/g, '') === folder)
    const item = () => {
      if (!found) return create(`stands for obs://${behind}`)
      if (found.obs?.bucket && found.obs.bucket !== behind)
        return blocked(`it stands for obs://${found.obs.bucket}, and obs://${behind} is wanted: choose another folder`)
      if (['MISCONFIGURED', 'FAILED'].includes(found.lifecycle ?? ''))
        return blocked(
          `it is ${found.lifecycle}: let SFS Turbo into the bucket by its policy, remove the target, run again`,
        )
      return exists(`stands for obs://${behind}`)
    }
    return { kind: 'target', name: `${share.name}/${folder}`, ...item() }
  })
}

function imageItem(name: string, { image }: AccountSurvey): ProvisionItem {
  const hasFailed = ['CREATE_FAILED', 'ERROR'].includes(image?.status ?? '')
  const item = hasFailed ? blocked(`it is ${image?.status}: unregister it, and run again`) : image ? exists() : create()
  return { kind: 'image', name, ...item }
}

function notebookItem(
  { name, flavor, hours = 4 }: NonNullable<ProvisionOptions['notebook']>,
  { prices }: ProvisionOptions,
  { notebook, flavors }: AccountSurvey,
): ProvisionItem {
  const item = () => {
    const failed = ['CREATE_FAILED', 'START_FAILED', 'ERROR', 'FROZEN'].includes(notebook?.status ?? '')
    if (failed) return blocked(`it is ${notebook?.status}: delete it, and run again`)
    if (notebook) return exists(notebook.status?.toLowerCase())
    if (!flavors.includes(flavor))
      return blocked(`${flavor} is not offered; offered are ${flavors.join(', ') || 'none'}`)
    const each = prices?.notebookHour
    const cost = { amount: 'while it runs', per: 'hour' as const, ...(each === undefined ? {} : { price: each }) }
    return create(`${flavor}, stops by itself after ${hours} h`, cost)
  }
  return { kind: 'notebook', name, ...item() }
}
