import type { WaitOptions } from '../wait-until.ts'
import { type Clients, clientsOf } from './account-survey.ts'
import { itemTable } from './item-table.ts'
import { type Made, readMadeRecord, recordKey } from './made-record.ts'
import { type DestroyItem, type DestroyOptions, type Known, type Looked, lookAtMade } from './made-state.ts'
import type { CarryOutOptions } from './making.ts'

/** What would be taken away. `String(destruction)` is a table for people. */
export interface Destruction {
  readonly items: readonly DestroyItem[]
  toString(): string
  /** Removes what is said to be; gives what was left. Safe to repeat. @throws ServiceError; the signal's reason. */
  apply(options?: CarryOutOptions): Promise<readonly DestroyItem[]>
}

/**
 * Looks at what `provision` recorded to have made for a bucket, and would take that away: nothing that was there before,
 * no object of a bucket, and no file unless told. Changes nothing until it is applied.
 * @throws ServiceError; FormatError for a record that is not understood; the signal's reason.
 */
export async function destroyProvisioned(options: DestroyOptions, signal?: AbortSignal): Promise<Destruction> {
  const clients = clientsOf(options)
  const { bucket } = options
  const isThere = (await clients.obs.bucketRegion(bucket, signal)) !== undefined
  const record = isThere ? await readMadeRecord(clients.obs, bucket, signal) : undefined
  const looked = record ? await lookAtMade({ clients, options, record }, signal) : []
  const items = looked.map(({ item }) => item)
  return {
    items,
    toString: () =>
      items.length === 0
        ? `Nothing is recorded to have been made for ${bucket}: nothing would be removed.`
        : `${itemTable(items)}\nWhat is not named here was not made by provision(), and stays.`,
    apply: how => (record ? apply({ clients, options, record, looked }, how) : Promise.resolve([])),
  }
}

async function apply(
  { clients, options, record, looked }: Known & { readonly looked: readonly Looked[] },
  { signal, onProgress }: CarryOutOptions = {},
): Promise<readonly DestroyItem[]> {
  const { pollMs, patienceMs, bucket } = options
  for (const { made, item } of looked) {
    if (item.state === 'leave') continue
    const what = `${made.kind} ${made.name}`
    const onState = (state: string) => onProgress?.(`${what}: ${state}`)
    const wait: WaitOptions = { pollMs, timeoutMs: patienceMs, signal, onState }
    if (item.state === 'remove') await removeMade(made, { clients, bucket, wait })
    // The record of a bucket goes with it.
    if (made.kind !== 'bucket') await record.forget(made, signal)
    onProgress?.(`${what}: gone`)
  }
  return looked.map(({ item }) => item).filter(({ state }) => state === 'leave')
}

async function removeMade(
  { kind, id = '', shareId = '', networkId = '' }: Made,
  { clients, bucket, wait }: { readonly clients: Clients; readonly bucket: string; readonly wait: WaitOptions },
): Promise<void> {
  const { signal } = wait
  switch (kind) {
    case 'notebook':
      await clients.notebooks.remove(id, signal)
      await clients.notebooks.waitFor(id, 'gone', wait)
      return
    case 'image':
      return clients.images.unregister(id, signal)
    case 'target':
      await clients.targetsOf(shareId).remove(id, signal)
      return clients.targetsOf(shareId).waitGone(id, wait)
    case 'link':
      await clients.networks.unlink(networkId, shareId, signal)
      return clients.networks.waitUnlinked(networkId, shareId, wait)
    case 'share':
      await clients.shares.remove(id, signal)
      return clients.shares.waitGone(id, wait)
    case 'folder':
      return clients.obs.remove({ bucket, key: id }, signal)
    case 'bucket':
      await clients.obs.remove({ bucket, key: recordKey }, signal)
      return clients.obs.removeBucket(bucket, signal)
    case 'authorization':
      return
  }
}
