import { endpointOf } from '../endpoints.ts'
import type { ImageRequest } from '../modelarts/images.ts'
import type { ObsTargetRequest } from '../sfs-turbo/obs-targets.ts'
import { readMadeRecord } from './made-record.ts'
import { type CarryOutOptions, type Making, makingOf, type Work } from './making.ts'
import { foldersOf, isWholeShare, type ProvisionOptions, type ProvisionTarget } from './provision-options.ts'

/** What was provisioned, as `modelArts()` and OBS are told of it. */
export interface Provisioned {
  readonly poolId: string
  /** The share for `mounts`: `192.168.20.7:/`, the address within the pool's network. */
  readonly nfs: string
  readonly shareId: string
  /** `obs://bucket/` */
  readonly bucketUrl: string
  /** `organisation/name:tag`, without the registry's host, as jobs name it. */
  readonly image: string
  readonly notebookId?: string
}

/** Makes what `items` say is missing, one thing after another, and waits for each; notes what it makes. */
export async function carryOut(work: Work, how: CarryOutOptions): Promise<Provisioned> {
  const { clients, options, items } = work
  const { bucket, poolId } = options
  const { signal } = how
  // The bucket first, because it keeps the record: its own making can be noted only after it.
  const isNew = items.some(({ kind, name, state }) => kind === 'bucket' && name === bucket && state === 'create')
  if (isNew) await clients.obs.createBucket(bucket, signal)
  const record = await readMadeRecord(clients.obs, bucket, signal)
  if (isNew) await record.note({ kind: 'bucket', name: bucket, id: bucket }, signal)

  const making = makingOf(work, record, how)
  await provideAuthorization(making)
  await provideFolders(making)
  const shareId = await provideShare(making)
  const nfs = `${await provideLink(making, shareId)}:/`
  await provideTargets(making, shareId)
  const imageId = await provideImage(making)
  const notebookId = await provideNotebook(making, { imageId, shareId, nfs })
  return {
    ...{ poolId, nfs, shareId, bucketUrl: `obs://${bucket}/` },
    image: options.image.slice(options.image.indexOf('/') + 1),
    ...(notebookId === undefined ? {} : { notebookId }),
  }
}

async function provideAuthorization({ clients, options, isMissing, make, signal }: Making): Promise<void> {
  const { userId, agencySuffix } = options.authorization ?? {}
  if (userId === undefined || agencySuffix === undefined || !isMissing('authorization', userId)) return
  await make({ kind: 'authorization', name: userId }, async () => {
    const agency = await clients.authorizations.createAgency(agencySuffix, signal)
    await clients.authorizations.set({ user_id: userId, type: 'agency', content: agency }, signal)
    return agency
  })
}

async function provideFolders({ clients, options, isMissing, make, signal }: Making): Promise<void> {
  const { bucket } = options
  for (const folder of foldersOf(options)) {
    const name = `${bucket}/${folder}`
    await make({ kind: 'folder', name }, async () => {
      // A folder is an object without content, as the console makes them.
      if (isMissing('folder', name)) await clients.obs.put({ bucket, key: folder }, Buffer.alloc(0), signal)
      return folder
    })
  }
}

async function provideShare({ clients, options, survey, make, creating, waiting }: Making): Promise<string> {
  const { share } = options
  const id = await make({ kind: 'share', name: share.name }, async () => {
    if (survey.share || !isWholeShare(share)) return survey.share!.id
    return (await clients.shares.create(share, creating)).id
  })
  await clients.shares.waitAvailable(id, waiting(`share ${share.name}`))
  return id
}

/** The address of the share within the network of the pool. */
async function provideLink(making: Making, shareId: string): Promise<string> {
  const { clients, options, survey, make, waiting, signal } = making
  const { share, poolId } = options
  const networkId = survey.pool!.spec!.network!.name!
  const name = `${share.name} → ${poolId}`
  const link = { shareId, name: share.name }
  await clients.networks.waitActive(networkId, waiting(`network ${networkId}`))
  await make({ kind: 'link', name, shareId, networkId }, async () => {
    await clients.networks.link(networkId, link, signal)
    return `${networkId}/${shareId}`
  })
  return clients.networks.waitLinked(networkId, link, waiting(`link ${name}`))
}

async function provideTargets({ clients, options, make, creating, waiting }: Making, shareId: string): Promise<void> {
  const targets = clients.targetsOf(shareId)
  for (const target of options.targets ?? []) {
    const name = `${options.share.name}/${target.folder}`
    const request = targetRequest(target, options)
    const create = async () => (await targets.create(request, creating)).target_id
    const id = await make({ kind: 'target', name, shareId }, create)
    await targets.waitAvailable(id, waiting(`target ${name}`))
  }
}

/** Who runs in a training container: what is imported must be theirs, or they cannot write beside it. */
const containerUser = { uid: 1000, gid: 1000 }

function targetRequest(target: ProvisionTarget, { bucket, region, endpoints }: ProvisionOptions): ObsTargetRequest {
  const { folder, autoExport = [] } = target
  return {
    file_system_path: folder,
    obs: {
      ...{ bucket: target.bucket ?? bucket, endpoint: endpointOf('obs', region, endpoints).host },
      ...(autoExport.length > 0 ? { policy: { auto_export_policy: { events: [...autoExport] } } } : {}),
      attributes: { file_mode: 644, dir_mode: 755, ...containerUser },
    },
  }
}

async function provideImage({ clients, options, make, creating, waiting }: Making): Promise<string> {
  const { image } = options
  const request: ImageRequest = {
    ...{ swr_path: image, arch: 'AARCH64', resource_category: ['ASCEND'], services: ['NOTEBOOK', 'SSH'] },
  }
  const create = async () => (await clients.images.register(request, creating)).id
  const id = await make({ kind: 'image', name: image }, create)
  await clients.images.waitActive(id, waiting(`image ${image}`))
  return id
}

async function provideNotebook(
  { clients, options, survey, make, creating, waiting }: Making,
  { imageId, shareId, nfs }: { readonly imageId: string; readonly shareId: string; readonly nfs: string },
): Promise<string | undefined> {
  if (!options.notebook) return undefined
  const { name, flavor, hours = 4, folder = '', at = '/home/ma-user/work/', keyPair } = options.notebook
  const id = await make({ kind: 'notebook', name }, async () => {
    if (survey.notebook) return survey.notebook.id
    const created = await clients.notebooks.create(
      {
        ...{ name, flavor, image_id: imageId, pool_id: options.poolId, feature: 'NOTEBOOK' },
        duration: hours * 3_600_000,
        volume: { category: 'EFS', ownership: 'DEDICATED', uri: `${nfs}${folder}`, id: shareId, mount_path: at },
        ...(keyPair === undefined ? {} : { endpoints: [{ service: 'SSH', key_pair_names: [keyPair] }] }),
      },
      creating,
    )
    return created.id
  })
  // One that somebody stopped stays so: it would take devices of the pool.
  const isStopped = ['STOPPED', 'STOPPING'].includes(survey.notebook?.status ?? '')
  if (!isStopped) await clients.notebooks.waitFor(id, 'RUNNING', waiting(`notebook ${name}`))
  return id
}
