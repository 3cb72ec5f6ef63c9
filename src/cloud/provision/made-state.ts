import type { Obs } from '../obs/obs.ts'
import type { Share } from '../sfs-turbo/shares.ts'
import type { CloudOptions } from '../transport.ts'
import type { Clients } from './account-survey.ts'
import { type Made, type MadeRecord, recordKey } from './made-record.ts'

export interface DestroyOptions extends CloudOptions {
  /** The bucket that was provisioned; its record says what was made. */
  readonly bucket: string
  /** Deletes the share that was made, with all files on it; without this, it stays, and so do its links and targets. */
  readonly deleteFiles?: boolean
  /** Time between two looks at something that is being removed, in ms; default 10,000. */
  readonly pollMs?: number
  /** Longest wait for one thing, in ms; default 30 minutes. */
  readonly patienceMs?: number
}

/** One thing that `provision` made. */
export interface DestroyItem {
  readonly kind: Made['kind']
  readonly name: string
  /** `gone`: somebody removed it already. */
  readonly state: 'remove' | 'leave' | 'gone'
  /** Why it is left. */
  readonly detail: string
}

/** What was made, and by whose keys it is looked at. */
export interface Known {
  readonly clients: Clients
  readonly options: DestroyOptions
  readonly record: MadeRecord
}

/** Something that was made, and what would become of it. */
export interface Looked {
  readonly made: Made
  readonly item: DestroyItem
}

/** In the order of removing: what stands on another goes before it. */
const order: readonly Made['kind'][] = [
  'notebook',
  'image',
  'target',
  'link',
  'share',
  'authorization',
  'folder',
  'bucket',
]

/** Looks at what was made, and says of each what would become of it. */
export async function lookAtMade(
  { clients, options, record }: Known,
  signal?: AbortSignal,
): Promise<readonly Looked[]> {
  const made = [...record.made].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
  const looked: Looked[] = []
  for (const each of made) {
    const before = looked.map(({ item }) => item)
    const answer = await stateOf(each, { clients, options, record, before }, signal)
    looked.push({ made: each, item: { kind: each.kind, name: each.name, ...answer } })
  }
  return looked
}

type State = Pick<DestroyItem, 'state' | 'detail'>
const remove: State = { state: 'remove', detail: '' }
const gone: State = { state: 'gone', detail: '' }
const leave = (detail: string): State => ({ state: 'leave', detail })

async function stateOf(
  made: Made,
  { clients, options, record, before }: Known & { readonly before: readonly DestroyItem[] },
  signal?: AbortSignal,
): Promise<State> {
  const { kind, id, shareId = '', networkId = '' } = made
  const { bucket, deleteFiles = false } = options
  if (id === undefined)
    return leave(
      'whether it was made is not known: run provision() again, which takes note of it, or remove it yourself',
    )
  const stays = !deleteFiles && record.made.some(each => each.kind === 'share' && each.id === shareId)
  switch (kind) {
    case 'notebook':
      return (await clients.notebooks.get(id, signal)) ? remove : gone
    case 'image':
      return (await clients.images.list(signal)).some(each => each.id === id)
        ? { state: 'remove', detail: 'from the list of ModelArts; it stays in SWR' }
        : gone
    case 'target': {
      if (!(await clients.shares.get(shareId, signal))) return gone
      const found = (await clients.targetsOf(shareId).list(signal)).some(({ target_id }) => target_id === id)
      return !found ? gone : stays ? leave('its share stays') : remove
    }
    case 'link': {
      const network = await clients.networks.get(networkId, signal)
      const linked = network?.spec?.connection?.sfsTurboConnectionList?.some(({ sfsId }) => sfsId === shareId)
      return !linked ? gone : stays ? leave('its share stays') : remove
    }
    case 'share': {
      const share = await clients.shares.get(id, signal)
      if (!share) return gone
      return deleteFiles
        ? { state: 'remove', detail: `with all files: ${usage(share)}` }
        : leave(`${usage(share)}: its files would be lost; ask with deleteFiles`)
    }
    case 'authorization':
      return leave('others may need it, too; remove it in the console, on the page "Permission Management"')
    case 'folder':
      return folderState(clients, { bucket, folder: id }, signal)
    case 'bucket': {
      const kept = before.filter(({ state }) => state === 'leave')
      if (kept.length > 0) return leave(`it keeps the record of what stays: ${kept.map(each => each.name).join(', ')}`)
      const own = new Set([
        recordKey,
        ...before.filter(({ kind }) => kind === 'folder').map(({ name }) => name.slice(bucket.length + 1)),
      ])
      for await (const { key } of clients.obs.list(bucket, '', signal))
        if (!own.has(key)) return leave(`it holds objects, such as ${key}`)
      return remove
    }
  }
}

async function folderState(
  { obs }: { readonly obs: Obs },
  { bucket, folder }: { readonly bucket: string; readonly folder: string },
  signal?: AbortSignal,
): Promise<State> {
  let isThere = false
  for await (const { key } of obs.list(bucket, folder, signal)) {
    if (key !== folder) return leave(`it holds objects, such as ${key}`)
    isThere = true
  }
  return isThere ? remove : gone
}

function usage({ size, avail_capacity }: Share): string {
  if (size == null || avail_capacity == null) return 'it may be in use'
  return `${Math.max(0, size - avail_capacity).toFixed(1)} of ${size} GiB are in use`
}
