import { destroyProvisioned, obs, provision, shares } from 'ascendflow/modelarts'
import { describe, expect, it } from 'vitest'
import { shareRequest } from '../account-requests.ts'
import { doubleAccount } from '../double-account.ts'
import { existing, whole, wholeAccount } from './provisioned-account.ts'

async function provisioned(options: Parameters<typeof doubleAccount>[0] = {}) {
  const { double, transport } = await doubleAccount({ buckets: [], ...options })
  const account = wholeAccount(double)
  return { double, transport, account, objects: obs(account) }
}

describe('destroyProvisioned', () => {
  it('leaves the share with its files and what hangs on it, unless told', async () => {
    const { double, account } = await provisioned({ usedGib: 12 })
    await (await provision(account)).apply()
    const shown = await destroyProvisioned(account)
    expect(existing(double)).toEqual(whole)
    expect(String(shown)).toMatch(
      /leave {3}share .*12\.0 of 6144 GiB are in use: its files would be lost; ask with deleteFiles/,
    )
    const left = await shown.apply()
    expect(left.map(({ kind }) => kind)).toEqual(['target', 'link', 'share', 'bucket'])
    expect(existing(double)).toEqual([
      ...['bucket standard-llama2-13b', 'link sfs-train', 'network network-double', 'share sfs-train'],
      'target training_data',
    ])
    const rest = await destroyProvisioned({ ...account, deleteFiles: true })
    expect(await rest.apply()).toEqual([])
    expect(existing(double)).toEqual(['network network-double'])
    expect(String(await destroyProvisioned(account))).toContain('nothing would be removed')
  })

  it('leaves the bucket and the folders that hold objects', async () => {
    const { double, account, objects } = await provisioned()
    await (await provision(account)).apply()
    await objects.put({ bucket: account.bucket, key: 'training_data/alpaca.parquet' }, Buffer.from('x'))
    const left = await (await destroyProvisioned({ ...account, deleteFiles: true })).apply()
    expect(left.map(({ kind, name, detail }) => `${kind} ${name}: ${detail}`)).toEqual([
      'folder standard-llama2-13b/training_data/: it holds objects, such as training_data/alpaca.parquet',
      'bucket standard-llama2-13b: it keeps the record of what stays: standard-llama2-13b/training_data/',
    ])
    expect(double.object(account.bucket, 'training_data/alpaca.parquet')?.toString()).toBe('x')
  })

  it('takes nothing that was there before', async () => {
    const { double, account, transport } = await provisioned({ buckets: ['standard-llama2-13b'] })
    await shares(transport).create(shareRequest)
    const before = existing(double)
    await (await provision(account)).apply()
    expect(await (await destroyProvisioned({ ...account, deleteFiles: true })).apply()).toEqual([])
    expect(existing(double)).toEqual(before)
  })

  it('takes nothing that another made under the name of what was deleted', async () => {
    const { double, account, transport } = await provisioned()
    await (await provision(account)).apply()
    const client = shares(transport)
    await client.remove((await client.find('sfs-train'))!.id)
    await client.waitGone((await client.find('sfs-train'))?.id ?? 'none', { pollMs: 1 })
    const theirs = await client.create(shareRequest)
    const shown = await destroyProvisioned({ ...account, deleteFiles: true })
    expect(shown.items.find(({ kind }) => kind === 'share')?.state).toBe('gone')
    await shown.apply()
    expect((await client.find('sfs-train'))?.id).toBe(theirs.id)
    expect(existing(double)).not.toContain('notebook prep-01')
  })

  it('does not take an authorization that it gave, and says why', async () => {
    const { account } = await provisioned({ isAuthorized: false })
    const authorization = { userId: 'all-users', agencySuffix: 'train' }
    await (await provision({ ...account, authorization })).apply()
    const left = await (await destroyProvisioned({ ...account, deleteFiles: true })).apply()
    expect(left.map(({ kind }) => kind)).toEqual(['authorization', 'bucket'])
    expect(left[0]?.detail).toContain('others may need it')
  })

  it('goes on after it was cut off', async () => {
    let [isArmed, isDead] = [true, false]
    const { double, account } = await provisioned({
      fault: ({ method, path }) => {
        if (isArmed && method === 'DELETE' && path.includes('/targets/')) isDead = true
        return isDead ? 'reset' : undefined
      },
    })
    await (await provision(account)).apply()
    const all = { ...account, deleteFiles: true }
    await expect((await destroyProvisioned(all)).apply()).rejects.toThrow('no answer')
    expect(existing(double)).not.toContain('notebook prep-01')
    isArmed = isDead = false
    expect(await (await destroyProvisioned(all)).apply()).toEqual([])
    expect(existing(double)).toEqual(['network network-double'])
  })

  it('does not guess at a record that it does not understand', async () => {
    const { account, objects } = await provisioned()
    await (await provision(account)).apply()
    const place = { bucket: account.bucket, key: '.ascendflow/provisioned.json' }
    await objects.put(place, Buffer.from('{"version":2}'))
    await expect(destroyProvisioned(account)).rejects.toThrow(/provisioned\.json: expected the record of provision/)
    await expect((await provision({ ...account, folders: ['new/'] })).apply()).rejects.toThrow('expected the record')
  })

  it('knows nothing of a bucket that is not there', async () => {
    const { account } = await provisioned()
    const shown = await destroyProvisioned(account)
    expect([shown.items, await shown.apply()]).toEqual([[], []])
  })
})
