import { type ShareRequest, shares } from 'ascendflow/modelarts'
import { describe, expect, it } from 'vitest'
import { shareRequest } from '../account-requests.ts'
import { doubleAccount, loses, soon } from '../double-account.ts'

describe('SFS Turbo shares', () => {
  it('are created, waited for, found by name whatever its case, and deleted', async () => {
    const { double, transport } = await doubleAccount()
    const client = shares(transport)
    const { id } = await client.create(shareRequest)
    const states: string[] = []
    const share = await client.waitAvailable(id, { ...soon, onState: state => states.push(state) })
    expect(share).toMatchObject({ name: 'sfs-train', size: 6144, status: '200', hpc_bw: '500M', vpc_id: 'vpc-1' })
    expect(states).toEqual(['being created', 'available'])
    expect((await client.find('SFS-Train'))?.id).toBe(id)
    await client.remove(id)
    await client.waitGone(id, soon)
    await client.remove(id)
    expect([await client.get(id), double.things.filter(({ kind }) => kind === 'share')]).toEqual([undefined, []])
  })

  it.each(['lost-answer', 'lost-answer-page'] as const)('exist once after a creation with a %s', async fault => {
    const { double, transport } = await doubleAccount({ fault: loses(/POST .*\/shares$/, 2, fault) })
    const client = shares(transport)
    const { id } = await client.create(shareRequest, soon)
    expect(double.things.filter(({ kind }) => kind === 'share').map(each => each.id)).toEqual([id])
    expect((await client.create(shareRequest, soon)).id).toBe(id)
  })

  it('are all listed, also more than come in one answer', async () => {
    const { transport } = await doubleAccount()
    const client = shares(transport)
    for (let at = 0; at < 101; at++) await client.create({ ...shareRequest, name: `share-${at}` })
    expect((await client.list()).length).toBe(101)
  })

  it.each([
    ['303', 'it is not created, for its creation failed'],
    ['800', 'it is frozen'],
  ])('are not waited for in state %s', async (state, message) => {
    const { transport } = await doubleAccount({ endsAs: () => state })
    const client = shares(transport)
    const { id } = await client.create(shareRequest)
    await expect(client.waitAvailable(id, soon)).rejects.toThrow(message)
  })

  it('are waited for no longer than told, and no longer than wanted', async () => {
    const { transport } = await doubleAccount({ pollsBeforeReady: 1_000_000 })
    const client = shares(transport)
    const { id } = await client.create(shareRequest)
    await expect(client.waitAvailable(id, { pollMs: 1, timeoutMs: 20 })).rejects.toThrow(
      'still being created after 0 s',
    )
    const controller = new AbortController()
    const waiting = client.waitAvailable(id, { pollMs: 60_000, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow()
  })

  it.each<[string, Partial<ShareRequest>, RegExp]>([
    ['a size between two', { size: 6000 }, /6000 GiB is no size .*4915 and 6144 GiB are/],
    ['a size below the least', { size: 1000, bandwidth: '20M' }, /3686 and 4915 GiB are/],
    ['a name that is too short', { name: 'sfs' }, /name: 4 to 64/],
    ['a bandwidth that there is not', { bandwidth: '300M' as never }, /bandwidth/],
    ['a field that is not known', { sise: 6144 } as never, /sise/],
  ])('are refused for %s before anything is asked', async (_, wrong, message) => {
    const { double, transport } = await doubleAccount()
    await expect(shares(transport).create({ ...shareRequest, ...wrong })).rejects.toThrow(message)
    expect(double.requests).toEqual([])
  })

  it.each([1228, 3686, 4915, 6144, 8601, 11059])('come in %i GiB', async size => {
    const { transport } = await doubleAccount()
    const created = await shares(transport).create({ ...shareRequest, size })
    expect(created.name).toBe('sfs-train')
  })

  it('say what to do when the quota is used up', async () => {
    const { transport } = await doubleAccount({ quotas: { share: 0 } })
    await expect(shares(transport).create(shareRequest)).rejects.toThrow(/SFS\.TURBO\.0010 .*larger quota/)
  })
})
